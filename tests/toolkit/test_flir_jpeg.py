from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.image_headers import read_header
from mmdistill.toolkit.images import read_image, read_pixels
from mmdistill.toolkit.thermal import ThermalRange, stretch
from mmdistill.toolkit.video import open_frames
from tests.toolkit.flir_files import Planck, flir_jpeg


def measured(number: int = 0, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    return np.random.default_rng(number).integers(13000 + 10 * number, 15000 + 10 * number, shape).astype(np.uint16)


@pytest.mark.parametrize("png", [False, True])
@pytest.mark.parametrize("shape", [(24, 32), (240, 320)])  # the larger one takes several segments
@pytest.mark.parametrize("planck", [Planck(), Planck(r1=17096.453, b=1435.0, f=1.5, o=-5753, r2=0.046642166)])
def test_temperatures_are_those_of_plancks_law(
    tmp_path: Path, png: bool, shape: tuple[int, int], planck: Planck
) -> None:
    pytest.importorskip("flyr")
    raw = measured(shape=shape)
    (tmp_path / "x.jpg").write_bytes(flir_jpeg(raw, png=png, planck=planck))
    read = read_pixels(tmp_path / "x.jpg")
    assert read.dtype == np.float64
    np.testing.assert_allclose(read, planck.celsius(raw), atol=1e-4)


def test_frames_share_a_range_of_temperatures(tmp_path: Path) -> None:
    pytest.importorskip("flyr")
    celsius = [Planck().celsius(measured(each)) for each in range(3)]
    for each in range(3):
        (tmp_path / f"{each}.jpg").write_bytes(flir_jpeg(measured(each)))
    frames = open_frames(tir=tmp_path)
    shared = ThermalRange()
    shared.measure(0, celsius[0])
    for each in (2, 0, 1):
        tir = frames.frame(each).tir
        assert tir is not None
        limits = shared.at(each, celsius[each])
        assert limits is not None
        expected = stretch(celsius[each], limits).astype(int)
        np.testing.assert_allclose(tir[..., 0], expected, atol=1)


def test_without_the_extra_the_false_colors_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flyr", None)
    (tmp_path / "x.jpg").write_bytes(flir_jpeg(measured()))
    with pytest.raises(DataError, match=r"x\.jpg: reading the temperatures .* pip install 'mmdistill\[thermal\]'"):
        read_image(tmp_path / "x.jpg")


def test_flir_segments_without_measured_values_make_an_ordinary_jpeg(tmp_path: Path) -> None:
    data = flir_jpeg(measured(), measured=False)
    (tmp_path / "x.jpg").write_bytes(data)
    header = read_header(data)
    assert header is not None
    assert not header.radiometric
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read_pixels(tmp_path / "x.jpg"), expected)


@pytest.mark.parametrize("lost", ["values", "end"])
def test_damaged_files_are_refused(tmp_path: Path, lost: str) -> None:
    pytest.importorskip("flyr")
    data = bytearray(flir_jpeg(measured()))
    if lost == "values":
        at = data.index(b"FFF\0") + 64 + 12  # the position of the values
        data[at : at + 4] = b"\x7f\0\0\0"
    else:
        data = data[:-500]
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(
        DataError, match=r"x\.jpg: (flyr cannot read|expected an image, got 0 x 0|the image is cut off)"
    ):
        read_pixels(tmp_path / "x.jpg")


def test_thermal_images_above_the_size_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flyr")
    monkeypatch.setenv("MMDISTILL_MAX_PIXELS", "1000")
    (tmp_path / "x.jpg").write_bytes(flir_jpeg(measured()))
    with pytest.raises(DataError, match=r"x\.jpg: the image has .* pixels, more than the limit"):
        read_pixels(tmp_path / "x.jpg")
