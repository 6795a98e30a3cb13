from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.toolkit.thermal import ThermalRange
from mmdistill.toolkit.video import open_frames
from tests.toolkit.tiff_files import tiff


def spread(low: int, high: int) -> np.ndarray:
    """An image with these percentiles."""
    return np.linspace(low, high, 10201).reshape(101, 101).round().astype(np.uint16)


WITHIN = np.full((4, 4), 1500, np.uint16)


def limits(low: int, high: int) -> tuple[float, float]:
    return (pytest.approx(low + 0.01 * (high - low), abs=1), pytest.approx(high - 0.01 * (high - low), abs=1))


def test_the_range_stays_then_glides() -> None:
    thermal_range = ThermalRange()
    thermal_range.measure(0, spread(1000, 2000))
    assert thermal_range.unmeasured(7) == []
    assert thermal_range.at(0, WITHIN) == thermal_range.at(24, WITHIN) == limits(1000, 2000)
    thermal_range.measure(13, spread(0, 60000))  # not one of those that count
    assert thermal_range.at(24, WITHIN) == limits(1000, 2000)
    assert thermal_range.unmeasured(25) == [25]
    thermal_range.measure(25, spread(2000, 4000))
    assert thermal_range.at(25, WITHIN) == limits(1000, 2000), "nothing jumps"
    low, high = thermal_range.at(35, WITHIN) or (0, 0)
    assert low == pytest.approx(0.6 * 1010 + 0.4 * 2020, abs=1)
    assert high - low == pytest.approx(980 * 2**0.4, abs=2)
    thermal_range.measure(50, spread(9000, 9900))
    assert thermal_range.at(50, WITHIN + 1000) == limits(2000, 4000)


def test_what_cannot_be_measured_is_passed_over() -> None:
    thermal_range = ThermalRange()
    thermal_range.measure(0, None)
    assert thermal_range.at(3, WITHIN) is None
    thermal_range.measure(25, spread(1000, 2000))
    assert thermal_range.at(30, WITHIN) == limits(1000, 2000)
    thermal_range.measure(50, np.full((4, 4), 7000, np.uint16))  # the shutter is closed
    assert thermal_range.at(60, WITHIN) == limits(1000, 2000)
    assert thermal_range.unmeasured(60) == []


def thermal(folder: Path, frames: int, hot_from: int) -> Path:
    """A calm scene that a hot object enters: its range becomes 11 times as wide."""
    random = np.random.default_rng(0)
    scene = random.integers(7000, 7400, (60, 80)).astype(np.uint16)
    folder.mkdir()
    for index in range(frames):
        image = scene.copy()
        if index >= hot_from:
            image[:, 68:] += 4000
        cv2.imwrite(str(folder / f"{index:03d}.png"), image)
    return folder


def test_a_hot_object_does_not_darken_the_rest_at_once(tmp_path: Path) -> None:
    frames = open_frames(tir=thermal(tmp_path / "a", 60, 10))
    rest = np.array([np.mean(frames.frame(index).tir[:, :40], dtype=float) for index in range(60)])  # type: ignore[index]
    assert np.abs(np.diff(rest)).max() < 15, "each image by its own percentiles would jump by about 100"
    assert rest[0] - rest[50] > 80, "in the end the range follows"
    assert np.ptp(rest[:26]) == 0


@given(order=st.permutations(range(0, 60, 7)))
def test_a_frame_looks_the_same_whenever_it_is_read(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    folder = tmp_path_factory.getbasetemp() / "thermal"
    if not folder.exists():
        thermal(folder, 60, 10)
    in_order = open_frames(tir=folder)
    expected = {index: in_order.frame(index).tir for index in range(0, 60, 7)}
    frames = open_frames(tir=folder)
    for index in order:
        np.testing.assert_array_equal(frames.frame(index).tir, expected[index])


def test_a_broken_image_does_not_break_the_frames_measured_by_it(tmp_path: Path) -> None:
    folder = thermal(tmp_path / "a", 40, 10)
    (folder / "025.png").write_bytes(b"broken")
    frames = open_frames(tir=folder, on_broken="skip")
    assert [index for index, reading in enumerate(frames) if reading.states.tir == "broken"] == [25]
    np.testing.assert_array_equal(frames.frame(30).tir, frames.frame(11).tir)


def test_a_frame_that_the_range_does_not_fit_has_its_own(tmp_path: Path) -> None:
    """As when a thermal camera closes its shutter to calibrate, and all values are others from then on."""
    folder = thermal(tmp_path / "a", 30, 99)
    image = cv2.imread(str(folder / "000.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(folder / "012.png"), image + 2000)
    frames = open_frames(tir=folder)
    np.testing.assert_array_equal(frames.frame(12).tir, frames.frame(0).tir)


@pytest.mark.parametrize(("dtype", "factor", "offset"), [("float32", 0.01, -100.0), ("int16", 1, -9000)])
def test_values_below_zero_have_the_range_of_16_bits(tmp_path: Path, dtype: str, factor: float, offset: float) -> None:
    deep = open_frames(tir=thermal(tmp_path / "deep", 30, 10))
    (tmp_path / "other").mkdir()
    for index in range(30):
        values = cv2.imread(str(tmp_path / "deep" / f"{index:03d}.png"), cv2.IMREAD_UNCHANGED) * float(factor) + offset
        pixels = values.astype(dtype)
        if dtype == "float32":
            pixels[2, 3] = np.nan  # a dead pixel
        (tmp_path / "other" / f"{index:03d}.tif").write_bytes(tiff(pixels))
    other = open_frames(tir=tmp_path / "other")
    for index in (0, 9, 12, 29):
        got, expected = other.frame(index).tir, deep.frame(index).tir
        assert got is not None
        assert expected is not None
        if dtype == "float32":
            assert got[2, 3].tolist() == [0, 0, 0]
        assert np.abs(got.astype(int) - expected)[3:].max() <= 2
