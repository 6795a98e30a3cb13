from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import read_image, write_image
from mmdistill.toolkit.video import open_frames
from mmdistill.toolkit.video.reading import aspect_warning

STEP = 5


def images(folder: Path, count: int, size: tuple[int, int] = (32, 24)) -> Path:
    for index in range(count):
        write_image(folder / f"{index}.png", np.full((size[1], size[0], 3), STEP * index, np.uint8))
    return folder


def video(path: Path, count: int, codec: str) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, (64, 48))
    for index in range(count):
        writer.write(np.full((48, 64, 3), STEP * index, np.uint8))
    writer.release()
    return path


def level(image: np.ndarray | None) -> int:
    assert image is not None
    return round(float(image.mean()) / STEP + 0.25)


def test_reads_both_modalities_side_by_side(tmp_path: Path) -> None:
    frames = open_frames(images(tmp_path / "a", 12), images(tmp_path / "b", 12))
    assert len(frames) == 12
    assert frames.size == (32, 24)
    rgb, tir = frames.frame(11)
    assert level(rgb) == level(tir) == 11


@pytest.mark.parametrize("side", ["rgb", "tir"])
def test_the_missing_modality_is_none(tmp_path: Path, side: str) -> None:
    frames = open_frames(**{side: images(tmp_path / "a", 3, size=(20, 10))})
    frame = frames.frame(2)
    assert level(getattr(frame, side)) == 2
    assert getattr(frame, "tir" if side == "rgb" else "rgb") is None
    assert frames.size == (20, 10)


@pytest.mark.parametrize(("name", "codec"), [("x.avi", "MJPG"), ("x.mp4", "mp4v")])
def test_any_frame_of_a_video_at_any_time(tmp_path: Path, name: str, codec: str) -> None:
    frames = open_frames(video(tmp_path / name, 40, codec))
    assert len(frames) == 40
    assert frames.size == (64, 48)
    for index in (0, 1, 2, 30, 7, 39, 39, 0):
        assert level(frames.frame(index).rgb) == index
    with pytest.raises(IndexError, match="frame 40 of 40"):
        frames.frame(40)


def test_a_cut_off_video_ends_where_it_ends(tmp_path: Path) -> None:
    path = video(tmp_path / "x.avi", 40, "MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = open_frames(path, on_broken="skip")
    assert 5 < len(frames) < 35
    assert level(frames.frame(len(frames) - 1).rgb) == len(frames) - 1
    assert frames.incomplete == f"{path}: states 40 frames, {len(frames)} can be decoded"
    assert frames.warnings == [frames.incomplete]
    readings = iter(open_frames(path))
    for _ in range(len(frames)):
        next(readings)
    with pytest.raises(DataError, match=rf"x\.avi: states 40 frames, {len(frames)} can be decoded"):
        next(readings)


def test_different_lengths_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got 3 in .*a and 4 in .*x\.avi"):
        open_frames(images(tmp_path / "a", 3), video(tmp_path / "x.avi", 4, "MJPG"))


def test_tir_takes_rgbs_size_and_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = open_frames(images(tmp_path / "a", 3), images(tmp_path / "b", 3, size=(16, 12)))
    with caplog.at_level(logging.WARNING):
        for index in range(3):
            rgb, tir = frames.frame(index)
            assert rgb is not None
            assert tir is not None
            assert tir.shape == rgb.shape == (24, 32, 3)
            assert level(tir) == index
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'b'}: TIR of 16 x 12 is resized to RGB's 32 x 24"
    ]


def test_unusable_sources_are_named(tmp_path: Path) -> None:
    image = images(tmp_path / "a", 1) / "0.png"
    for source, message in (
        (tmp_path / "none.mp4", r"none\.mp4: expected a folder of images or a video file, there is none"),
        (image, r"0\.png: expected a folder of images or a video file, got one image"),
    ):
        with pytest.raises(DataError, match=message):
            open_frames(source)
    with pytest.raises(DataError, match="got neither"):
        open_frames()


def test_of_a_broken_video_our_line_is_the_only_one(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 100)
    # In a process of its own, because the decoder reads how much it may say only once.
    script = "import sys; from mmdistill.toolkit.video import open_frames; open_frames(sys.argv[1])"
    command = [sys.executable, "-c", script, str(tmp_path / "bad.mp4")]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()
    outside = [line for line in said if line and not line.startswith(("Traceback", " ", "The above exception", "av."))]
    assert outside == [
        f"mmdistill.toolkit.data_issues.DataError: {tmp_path / 'bad.mp4'}: cannot open the video: "
        "Invalid data found when processing input"
    ]


def test_the_shorter_length_by_choice_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, film = images(tmp_path / "a", 3), video(tmp_path / "x.avi", 5, "MJPG")
    with caplog.at_level(logging.WARNING):
        frames = open_frames(folder, film, length_mismatch="shorter")
        assert len(frames) == frames.length == len(list(frames)) == 3
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING][:1] == [
        f"got 3 in {folder} and 5 in {film}; the first 3 are used"
    ]


def test_a_broken_frame_of_a_video_shifts_no_other(tmp_path: Path) -> None:
    film = video(tmp_path / "x.avi", 30, "MJPG")
    data = bytearray(film.read_bytes())
    starts = [place for place in range(len(data)) if data[place : place + 3] == b"\xff\xd8\xff"]
    data[starts[7] : starts[8] - 8] = bytes(starts[8] - 8 - starts[7])
    film.write_bytes(data)
    frames = open_frames(film)
    assert len(frames) == 30
    with pytest.raises(DataError, match=r"x\.avi: cannot decode frame 8 of 30"):
        frames.frame(7)
    assert [level(frames.frame(index).rgb) for index in (8, 9, 6, 29, 3, 20)] == [8, 9, 6, 29, 3, 20]
    states = [reading.states.rgb for reading in open_frames(film, on_broken="skip")]
    assert [index for index, state in enumerate(states) if state == "broken"] == [7]


def deep_gray(path: Path, frames: list[np.ndarray]) -> Path:
    """A video of 16-bit gray, as thermal cameras record it."""
    depth = [cv2.VIDEOWRITER_PROP_DEPTH, cv2.CV_16U, cv2.VIDEOWRITER_PROP_IS_COLOR, 0]
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"FFV1"), 25.0, size, depth)
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no 16-bit video")
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def test_a_16_bit_video_is_read_as_the_same_images_in_a_folder(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    stored = [(random.integers(0, 500, (48, 64)) + 20000 + 2 * index).astype(np.uint16) for index in range(60)]
    (tmp_path / "a").mkdir()
    for index, pixels in enumerate(stored):
        cv2.imwrite(str(tmp_path / "a" / f"{index}.png"), pixels)
    folder, film = open_frames(tir=tmp_path / "a"), open_frames(tir=deep_gray(tmp_path / "x.mkv", stored))
    for index in (0, 1, 59, 30, 12, 49, 50):  # whatever was read before
        np.testing.assert_array_equal(film.frame(index).tir, folder.frame(index).tir)
        assert len(np.unique(film.frame(index).tir)) > 150, "not squeezed into the high byte"


def textured(folder: Path, numbers: list[int], size: tuple[int, int] = (32, 24)) -> Path:
    for number in numbers:
        picture = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
        write_image(folder / f"{number:03d}.png", picture)
    return folder


def test_a_lost_file_leaves_later_frames_aligned(tmp_path: Path) -> None:
    rgb = textured(tmp_path / "rgb", [1, 2, 3, 4, 5])
    frames = open_frames(rgb, textured(tmp_path / "tir", [1, 2, 4, 5], size=(16, 12)))
    assert len(frames) == 5
    assert [reading.states.tir for reading in frames] == ["seen", "seen", "missing", "seen", "seen"]
    assert frames.frame(2).tir is None
    small = read_image(tmp_path / "tir/004.png")
    np.testing.assert_array_equal(frames.frame(3).tir, cv2.resize(small, (32, 24), interpolation=cv2.INTER_LINEAR))


def test_tir_alone_in_a_frame_still_has_rgbs_size(tmp_path: Path) -> None:
    rgb, tir = textured(tmp_path / "rgb", [1, 3, 4]), textured(tmp_path / "tir", [1, 2, 3, 4], size=(16, 12))
    reading = open_frames(rgb, tir).read(1)  # before any RGB image was read
    assert reading.images.rgb is None
    assert reading.images.tir is not None
    assert reading.images.tir.shape == (24, 32, 3)
    assert reading.sizes == (None, (16, 12))


@pytest.mark.parametrize("color", [(0, 0, 0), (90, 90, 90), (0, 0, 255)])
def test_a_black_image_counts_as_none_beside_one_that_is_not(tmp_path: Path, color: tuple[int, int, int]) -> None:
    rgb, tir = textured(tmp_path / "rgb", [1, 2, 3]), textured(tmp_path / "tir", [1, 2, 3])
    write_image(rgb / "002.png", np.full((24, 32, 3), color, np.uint8))
    write_image(rgb / "003.png", np.full((24, 32, 3), color, np.uint8))
    write_image(tir / "003.png", np.full((24, 32, 3), color, np.uint8))
    frames = open_frames(rgb, tir)
    assert [reading.states for reading in frames] == [("seen", "seen"), ("black", "seen"), ("black", "black")]
    assert [reading.usable for reading in frames] == [True, True, False]
    assert frames.frame(1).rgb is None
    assert frames.frame(1).tir is not None
    assert all(image is not None for image in frames.frame(2)), "nothing better to look at"


def test_what_is_nearly_black_shows_something(tmp_path: Path) -> None:
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[3, 5] = 3  # not in the middle row
    write_image(tmp_path / "a" / "1.png", picture)
    assert open_frames(tmp_path / "a").read(0).states.rgb == "seen"
    picture[3, 5] = 2  # as much as compression leaves of a constant
    write_image(tmp_path / "a" / "1.png", picture)
    assert open_frames(tmp_path / "a").read(0).states.rgb == "black"


def test_an_unreadable_image_stops_or_counts_as_none(tmp_path: Path) -> None:
    rgb, tir = textured(tmp_path / "rgb", [1, 2]), textured(tmp_path / "tir", [1, 2])
    (tir / "002.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"tir/002\.png: expected an image"):
        open_frames(rgb, tir).frame(1)
    reading = open_frames(rgb, tir, on_broken="skip").read(1)
    assert reading.states == ("seen", "broken")
    assert reading.problem.startswith(f"{tir / '002.png'}: expected an image")
    assert reading.images.rgb is not None
    assert reading.images.tir is None


def test_no_readable_frame_at_all(tmp_path: Path) -> None:
    rgb, tir = textured(tmp_path / "rgb", [1, 2]), textured(tmp_path / "tir", [1, 2])
    for path in rgb.iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"rgb: expected a frame that can be read"):
        open_frames(rgb, tir, on_broken="skip").read(0)


@pytest.mark.parametrize(
    ("rgb", "tir", "facts"),
    [
        ((1280, 720), (640, 480), ("1280 x 720 (16:9)", "640 x 480 (4:3)")),
        ((1920, 1080), (640, 512), ("1920 x 1080 (16:9)", "640 x 512 (5:4)")),
        ((640, 480), (480, 640), ("640 x 480 (4:3)", "480 x 640 (3:4)")),
        ((1, 10000), (1, 1), ("0.0001:1", "1:1")),
    ],
)
def test_an_aspect_warning_names_both_aspects(
    rgb: tuple[int, int], tir: tuple[int, int], facts: tuple[str, ...]
) -> None:
    warning = aspect_warning(rgb, tir) or ""
    assert all(fact in warning for fact in facts)


@pytest.mark.parametrize("tir", [(1280, 720), (640, 360), (854, 480), (1366, 768)])
def test_the_same_aspect_but_for_rounding_needs_no_warning(tir: tuple[int, int]) -> None:
    assert aspect_warning((1280, 720), tir) is None


def test_stretched_tir_is_a_warning_of_the_frames(tmp_path: Path) -> None:
    frames = open_frames(textured(tmp_path / "a", [1, 2], size=(64, 36)), textured(tmp_path / "b", [1, 2]))
    list(frames)
    assert frames.warnings == [f"{tmp_path / 'b'}: {aspect_warning((64, 36), (32, 24))}"]


def test_frames_in_order_have_one_size(tmp_path: Path) -> None:
    rgb, tir = textured(tmp_path / "rgb", [1, 2, 4]), textured(tmp_path / "tir", [1, 2, 3, 4])
    textured(rgb, [3], size=(24, 32))
    with pytest.raises(DataError, match=r"rgb: .*frame 3 is 24 x 32.*32 x 24"):
        list(open_frames(rgb, tir))
    readings = list(open_frames(rgb, tir, on_broken="skip"))
    assert [reading.states.rgb for reading in readings] == ["seen", "seen", "broken", "seen"]
    assert "frame 3 is 24 x 32" in readings[2].problem
    assert readings[2].images.tir is not None


def test_every_size_of_tir_is_warned_of(tmp_path: Path) -> None:
    rgb, tir = textured(tmp_path / "rgb", [1, 2, 3]), textured(tmp_path / "tir", [1, 3], size=(16, 12))
    textured(tir, [2], size=(32, 18))
    frames = open_frames(rgb, tir)
    assert all(reading.images.tir.shape == (24, 32, 3) for reading in frames)  # type: ignore[union-attr]
    assert len(frames.warnings) == 2
    assert "32 x 18 (16:9)" in frames.warnings[1]


def test_frames_named_by_times_are_in_order_and_it_is_said(tmp_path: Path) -> None:
    stems = ["1628087349.017", "1628087349.05", "1628087349.084", "1628087349.117", "1628087349.15", "1628087350"]
    for index, stem in enumerate(stems):
        write_image(tmp_path / f"{stem}.png", np.full((8, 8, 3), STEP * index, np.uint8))
    frames = open_frames(tmp_path)
    assert [level(reading.images.rgb) for reading in frames] == list(range(6))
    assert "1628087349.05.png" in frames.warnings[0] or "1628087349.15.png" in frames.warnings[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_among_images_is_refused(tmp_path: Path) -> None:
    rgb = textured(tmp_path / "rgb", [1, 3])
    os.mkfifo(rgb / "002.png")
    with pytest.raises(DataError, match=r"002\.png: expected a regular file, found a named pipe"):
        list(open_frames(rgb))
    states = [reading.states.rgb for reading in open_frames(rgb, on_broken="skip")]
    assert states == ["seen", "broken", "seen"]
    os.mkfifo(tmp_path / "film.mp4")
    with pytest.raises(DataError, match=r"film\.mp4: expected a regular file, found a named pipe"):
        open_frames(tmp_path / "film.mp4")
