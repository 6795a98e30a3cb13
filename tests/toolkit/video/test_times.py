"""Recordings of different rates, or named by times: which frames belong together."""

from __future__ import annotations

import struct
from pathlib import Path

import films
import numpy as np
import pytest
from films import HEIGHT, WIDTH, numbered_film, numbered_folder
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.toolkit.alignment import Alignment
from mmdistill.toolkit.alignment.alignment import to_rows
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.video import open_frames, open_input
from mmdistill.toolkit.video.pairing import match_times, times_from_names


def number(image: np.ndarray | None) -> int | None:
    return None if image is None else films.number(image)


def test_recordings_of_different_rates_are_not_paired_by_index(tmp_path: Path) -> None:
    rgb, tir = numbered_film(tmp_path / "rgb.mp4", 60, 30), numbered_film(tmp_path / "tir.mp4", 18, 9)
    for length_mismatch in ("error", "shorter"):
        with pytest.raises(DataError, match=r"RGB has 30 .*60 frames.*TIR has 9 .*18 frames.*--pair-by time"):
            open_frames(rgb, tir, length_mismatch=length_mismatch)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"got 60 in .* and 18 in"):
        open_frames(rgb, tir, pair_by="index")
    frames = open_frames(rgb, tir, pair_by="index", length_mismatch="shorter")
    assert len(frames) == 18
    assert "the first 18 are used" in frames.incomplete


def test_as_many_frames_at_another_rate_are_refused_too(tmp_path: Path) -> None:
    rgb, tir = numbered_film(tmp_path / "rgb.avi", 9, 25), numbered_film(tmp_path / "tir.avi", 9, 9)
    with pytest.raises(DataError, match=r"RGB has 25 .*TIR has 9 "):
        open_frames(rgb, tir)
    assert len(open_frames(rgb, tir, pair_by="index")) == 9


def test_nearly_equal_rates_are_one(tmp_path: Path) -> None:
    assert len(open_frames(numbered_film(tmp_path / "a.mp4", 5, 30), numbered_film(tmp_path / "b.mp4", 5, 29.97))) == 5


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_by_time_each_rgb_frame_has_the_nearest_tir_frame(tmp_path: Path, suffix: str) -> None:
    frames = open_frames(
        numbered_film(tmp_path / f"a{suffix}", 60, 30), numbered_film(tmp_path / f"b{suffix}", 18, 9), pair_by="time"
    )
    assert len(frames) == 60
    for index, reading in enumerate(frames):
        tir = number(reading.images.tir)
        assert number(reading.images.rgb) == index
        if tir is None:
            assert index == 59  # 1.967 s: TIR's last is at 1.889 s, more than half of its frame away
        else:
            assert abs(tir / 9 - index / 30) <= 1 / 18 + 1e-6
    assert number(frames.frame(30).tir) == 9, "in any order"
    assert number(frames.frame(3).tir) == 1
    assert "59 of 60 RGB frames" in frames.warnings[0]
    assert frames.incomplete == ""


def test_the_slower_rgb_leaves_tir_frames_out(tmp_path: Path) -> None:
    frames = open_frames(
        numbered_film(tmp_path / "a.mp4", 9, 9), numbered_film(tmp_path / "b.mp4", 30, 30), pair_by="time"
    )
    assert [number(reading.images.tir) for reading in frames] == [0, 3, 7, 10, 13, 17, 20, 23, 27]


def test_presentation_times_count_not_the_rate(tmp_path: Path) -> None:
    """A phone's video: its frames are as long as the light was low."""
    rgb, tir = numbered_film(tmp_path / "a.mp4", 6, 10), numbered_film(tmp_path / "b.mp4", 12, 10)
    data = bytearray(rgb.read_bytes())
    at = data.index(b"stts") + 4
    _, entries, count, duration = struct.unpack_from(">IIII", data, at)
    assert (entries, count) == (1, 6)
    struct.pack_into(">I", data, at + 12, 2 * duration)  # each frame lasts 0.2 s
    edit = data.index(b"elst") + 12
    struct.pack_into(">I", data, edit, 2 * struct.unpack_from(">I", data, edit)[0])
    rgb.write_bytes(data)
    assert [number(reading.images.tir) for reading in open_frames(rgb, tir, pair_by="time")] == [0, 2, 4, 6, 8, 10]


def test_folders_named_by_times_are_paired_by_them(tmp_path: Path) -> None:
    rgb = numbered_folder(
        tmp_path / "rgb", ["1628087349.05", "1628087349.1", "1628087349.15", "1628087349.2", "1628087349.25"]
    )
    tir = numbered_folder(tmp_path / "tir", ["1628087349.0512", "1628087349.103", "1628087349.2012", "1628087349.2514"])
    frames = open_frames(rgb, tir, pair_by="time")
    assert [number(reading.images.tir) for reading in frames] == [0, 1, None, 2, 3]
    assert [reading.states.tir for reading in frames][2] == "missing"


def test_folders_named_by_times_that_do_not_fit_by_index_are_warned_of(tmp_path: Path) -> None:
    stems = [f"1628087349.{each}" for each in (100, 150, 200, 250)]
    rgb = numbered_folder(tmp_path / "rgb", stems)
    frames = open_frames(
        rgb, numbered_folder(tmp_path / "tir", [f"1628087349.{each}" for each in (101, 201, 251, 301)])
    )
    assert "3 of 4 pairs" in frames.warnings[0]
    assert "0.051 s" in frames.warnings[0]
    assert open_frames(rgb, numbered_folder(tmp_path / "near", [f"{stem}4" for stem in stems])).warnings == []


def test_folders_named_by_times_of_different_rates_are_refused(tmp_path: Path) -> None:
    rgb = numbered_folder(tmp_path / "rgb", [f"{1628087349000 + 33 * each}" for each in range(12)])
    tir = numbered_folder(tmp_path / "tir", [f"{1628087349000 + 111 * each}" for each in range(4)])
    with pytest.raises(DataError, match=r"RGB has 30\.3 .*TIR has 9\.0"):
        open_frames(rgb, tir, length_mismatch="shorter")
    assert [number(frame.images.tir) for frame in open_frames(rgb, tir, pair_by="time")][::3] == [0, 1, 2, 3]


def test_what_has_no_times_is_not_paired_by_them(tmp_path: Path) -> None:
    clip, images = numbered_film(tmp_path / "a.mp4", 3, 25), numbered_folder(tmp_path / "b", ["1", "2", "3"])
    with pytest.raises(DataError, match=r"--pair-by time: .*b has no times"):
        open_frames(clip, images, pair_by="time")
    with pytest.raises(DataError, match=r"--pair-by time: expected RGB and TIR, got .*a\.mp4"):
        open_frames(clip, pair_by="time")
    with pytest.raises(DataError, match=r"--pair-by time: expected two recordings"):
        open_input("0", "1", pair_by="time")
    stamps = numbered_folder(tmp_path / "c", ["1628087349.05", "1628087349.15"])
    with pytest.raises(DataError, match=r"no RGB frame has a TIR frame near in time: 0\.000 to 0\.080 s in .*a\.mp4"):
        open_frames(clip, stamps, pair_by="time")


@pytest.mark.parametrize(
    ("stems", "times"),
    [
        (["0.033", "0.066"], [0.033, 0.066]),
        (["t7,5_c", "t8_c"], [7.5, 8.0]),
        (["1628087349050", "1628087349150"], [1628087349.05, 1628087349.15]),
        (["1628087349050000", "1628087349150000"], [1628087349.05, 1628087349.15]),
        (["1403636579763555584", "1403636579813555456"], [1403636579.763555584, 1403636579.813555456]),
        (["1", "2"], None),
        (["00000001", "00000002"], None),
        (["0.2", "0.1"], None),
        (["a0.1", "b0.2"], None),
        (["0.1", "x"], None),
        ([], None),
    ],
)
def test_times_of_names(stems: list[str], times: list[float] | None) -> None:
    found = times_from_names(stems)
    if times is None:
        assert found is None
    else:
        np.testing.assert_allclose(found, times, rtol=0, atol=1e-6)


RECORDING = st.lists(st.integers(0, 400), min_size=1, max_size=30, unique=True).map(lambda each: np.sort(each) / 10)


@given(rgb=RECORDING, tir=RECORDING)
def test_the_nearest_frame_is_taken_if_it_is_near(rgb: np.ndarray, tir: np.ndarray) -> None:
    limit = max(np.median(np.diff(each)) if len(each) > 1 else 0 for each in (rgb, tir)) / 2
    for time, found in zip(rgb, match_times(rgb, tir), strict=True):
        apart = np.abs(tir - time)
        if found is None:
            assert apart.min() > limit
        else:
            assert apart[found] == apart.min()
            assert apart.min() <= limit + 2e-5


@pytest.mark.parametrize(("delay", "last_of_tir"), [(0.2, 11), (-0.1, 8)])
def test_the_delay_moves_tir(tmp_path: Path, delay: float, last_of_tir: int) -> None:
    rgb, tir = numbered_film(tmp_path / "rgb.avi", 10, 10), numbered_film(tmp_path / "tir.avi", 20, 10)
    alignment = Alignment(to_rows(np.eye(3)), (WIDTH, HEIGHT), (WIDTH, HEIGHT), delay)
    frames = open_frames(rgb, tir, pair_by="time", alignment=alignment)
    expected = [frame + round(10 * delay) if frame + round(10 * delay) >= 0 else None for frame in range(10)]
    assert [number(frames.frame(each).tir) for each in range(10)] == expected
    assert expected[-1] == last_of_tir
    assert f"delay of TIR {delay:+.3f} s" in frames.warnings[-1]
    given = open_frames(rgb, tir, pair_by="time", delay=0.3)
    assert number(given.frame(0).tir) == 3
