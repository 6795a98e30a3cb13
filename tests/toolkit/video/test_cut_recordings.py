"""Recordings that end before the length they state, and pages of a TIFF file as frames."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import read_image
from mmdistill.toolkit.video import open_frames
from mmdistill.toolkit.video.recording_length import read_container
from tests.toolkit.tiff_files import tiff

CODECS = {".avi": "MJPG", ".mp4": "mp4v", ".mkv": "MJPG"}


def film(path: Path, count: int = 40) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*CODECS[path.suffix]), 25, (64, 48))
    assert writer.isOpened()
    random = np.random.default_rng(0)
    for _ in range(count):
        writer.write(random.integers(0, 256, (48, 64, 3)).astype(np.uint8))
    writer.release()
    return path


def movie_first(data: bytes) -> bytes:
    """An MP4 file with its index before the pictures, as of files for the web: it opens when it is cut off."""
    at = data.index(b"moov") - 4
    movie = bytearray(data[at:])
    pictures = data.index(b"mdat") - 4
    offset = movie.index(b"stco") + 4
    count = struct.unpack_from(">I", movie, offset + 4)[0]
    for each in range(count):
        place = offset + 8 + 4 * each
        struct.pack_into(">I", movie, place, struct.unpack_from(">I", movie, place)[0] + len(movie))
    return data[:pictures] + bytes(movie) + data[pictures:at]


@pytest.mark.parametrize("suffix", CODECS)
def test_a_whole_recording_lacks_nothing(tmp_path: Path, suffix: str) -> None:
    frames = open_frames(film(tmp_path / f"x{suffix}"))
    assert (len(list(frames)), frames.incomplete, frames.warnings) == (40, "", [])


@pytest.mark.parametrize("suffix", CODECS)
def test_a_cut_recording_says_how_many_frames_it_states(tmp_path: Path, suffix: str) -> None:
    path = film(tmp_path / f"x{suffix}")
    data = movie_first(path.read_bytes()) if suffix == ".mp4" else path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames = open_frames(path, on_broken="skip")
    assert 5 < len(frames) == len(list(frames)) < 35
    assert f"{path}: states" in frames.incomplete
    assert "40 frames" in frames.incomplete
    assert f"{len(frames)} can be decoded" in frames.incomplete
    with pytest.raises(DataError, match=r"40 frames, \d+ can be decoded"):
        list(open_frames(path))


def test_beside_a_cut_recording_the_whole_one_goes_on(tmp_path: Path) -> None:
    rgb, tir = film(tmp_path / "rgb.avi"), film(tmp_path / "tir.avi")
    rgb.write_bytes(rgb.read_bytes()[: rgb.stat().st_size // 2])
    readings = list(open_frames(rgb, tir, on_broken="skip"))
    states = [reading.states.rgb for reading in readings]
    assert len(readings) == 40
    assert all(reading.usable for reading in readings)
    assert states == sorted(states, key=["seen", "broken"].index)
    assert states.count("broken") > 5
    assert "can be decoded" in readings[-1].problem


@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("end", [40, 30])
def test_a_trimmed_recording_is_whole(tmp_path: Path, start: int, end: int) -> None:
    """Phones trim a video by a list of what is to be shown; the other frames stay in the file."""
    path = film(tmp_path / "x.mp4")
    data = bytearray(path.read_bytes())
    movie, edit, track = (data.index(kind) + 4 for kind in (b"mvhd", b"elst", b"mdhd"))
    scale, rate = (struct.unpack_from(">I", data, at + 12)[0] for at in (movie, track))
    shown = end - start
    struct.pack_into(">I", data, movie + 16, shown * scale // 25)
    struct.pack_into(">Ii", data, edit + 8, shown * scale // 25, start * rate // 25)
    path.write_bytes(data)
    frames = open_frames(path)
    assert frames.incomplete == ""
    assert len(list(frames)) == len(frames) == shown


def test_sound_that_is_longer_than_the_pictures_is_no_cut(tmp_path: Path) -> None:
    path = film(tmp_path / "x.mkv")
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3  # the duration of the longest track, milliseconds
    assert struct.unpack_from(">d", data, at)[0] == pytest.approx(1600, abs=50)
    struct.pack_into(">d", data, at, 4100.0)
    path.write_bytes(data)
    frames = open_frames(path)
    assert (len(list(frames)), frames.incomplete) == (40, "")


def test_a_file_smaller_than_its_container_states(tmp_path: Path) -> None:
    path = film(tmp_path / "x.mkv", 5)
    assert not read_container(path).truncated
    path.write_bytes(path.read_bytes()[:-50])
    assert read_container(path).truncated


def pages(count: int, dtype: str = "uint16") -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [(random.integers(0, 500, (24, 32)) + 7000 + 10 * each).astype(dtype) for each in range(count)]


@pytest.mark.parametrize(
    ("dtype", "white"), [("uint16", False), ("uint16", True), ("int16", False), ("float32", False)]
)
def test_pages_are_read_as_the_same_images_in_a_folder(tmp_path: Path, dtype: str, white: bool) -> None:
    stored = pages(30, dtype)
    (tmp_path / "x.tif").write_bytes(tiff(*stored, white_is_zero=white))
    (tmp_path / "a").mkdir()
    for index, page in enumerate(stored):
        (tmp_path / "a" / f"{index}.tif").write_bytes(tiff(page, white_is_zero=white))
    stack, folder = open_frames(tir=tmp_path / "x.tif"), open_frames(tir=tmp_path / "a")
    assert len(stack) == 30
    for index in (29, 0, 7, 28, 26):
        np.testing.assert_array_equal(stack.frame(index).tir, folder.frame(index).tir)
    assert (tmp_path / "x.tif").read_bytes() == tiff(*stored, white_is_zero=white), "the file stays as it is"


def test_pages_of_8_bits_without_thumbnails(tmp_path: Path) -> None:
    stored = [page.astype(np.uint8) for page in pages(3)]
    mixed = [stored[0], stored[0][:4, :4], stored[1], stored[2]]
    (tmp_path / "x.tif").write_bytes(tiff(*mixed, subfiles=[0, 1, 0, 0], order=">"))
    frames = open_frames(tir=tmp_path / "x.tif")
    assert [int(reading.images.tir[3, 4, 0]) for reading in frames] == [int(page[3, 4]) for page in stored]  # type: ignore[index]


def test_a_tiff_of_one_page_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(tiff(*pages(1)))
    with pytest.raises(DataError, match=r"x\.tif: .*got one image"):
        open_frames(tir=tmp_path / "x.tif")
    assert read_image(tmp_path / "x.tif").shape == (24, 32, 3)


def test_a_cut_stack_of_pages(tmp_path: Path) -> None:
    data = tiff(*pages(6))
    path = tmp_path / "x.tif"
    path.write_bytes(data[: len(data) * 2 // 3 + 10])
    frames = open_frames(tir=path, on_broken="skip")
    assert len(list(frames)) == 4
    assert frames.incomplete == f"{path}: the TIFF file is cut off after page 4"
    with pytest.raises(DataError, match="cut off after page 4"):
        list(open_frames(tir=path))


def test_pages_of_another_size_are_refused(tmp_path: Path) -> None:
    first, second = pages(2)
    (tmp_path / "x.tif").write_bytes(tiff(first, second[:20]))
    with pytest.raises(DataError, match=r"x\.tif: .*frame 2 is 32 x 20.*32 x 24"):
        list(open_frames(tir=tmp_path / "x.tif"))
    readings = list(open_frames(tir=tmp_path / "x.tif", on_broken="skip"))
    assert [reading.states.tir for reading in readings] == ["seen", "broken"]


@pytest.mark.parametrize(("more", "lacking"), [(1, False), (2, True)])
def test_an_avi_may_count_one_frame_too_many(tmp_path: Path, more: int, lacking: bool) -> None:
    path = film(tmp_path / "x.avi")
    data = bytearray(path.read_bytes())
    for place in (data.index(b"avih") + 8 + 16, data.index(b"strh") + 8 + 32):
        struct.pack_into("<I", data, place, 40 + more)
    path.write_bytes(data)
    frames = open_frames(path, on_broken="skip")
    assert len(list(frames)) == 40
    assert bool(frames.incomplete) == lacking


@pytest.mark.parametrize(("samples", "planes"), [(2, 1), (2, 2), (3, 2)])
def test_a_tiff_that_the_decoder_would_read_wrongly_is_refused(tmp_path: Path, samples: int, planes: int) -> None:
    """16-bit values are lost of two channels, and mixed of channels one after the other."""
    plane = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    content = bytearray(tiff(np.tile(plane, (samples, 1))))
    entries = {struct.unpack_from("<H", content, at)[0]: at for at in range(10, 10 + 12 * 11, 12)}
    for tag, value in ((257, 48), (278, 48), (277, samples)):
        struct.pack_into("<H", content, entries[tag] + 8, value)
    struct.pack_into("<HHIHH", content, entries[254], 284, 3, 1, planes, 0)
    (path := tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.tif: TIFF image of {samples} channels of 16 bits"):
        read_image(path)
