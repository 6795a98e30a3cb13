from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdistill.reference.data.frames import open_frames
from mmdistill.reference.data.images import write_image
from mmdistill.reference.errors import DataError

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


def test_reading_on_opens_the_video_no_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = open_frames(video(tmp_path / "x.avi", 10, "MJPG"))

    def reopened(*_: object) -> None:
        raise AssertionError("opened again")

    monkeypatch.setattr(cv2, "VideoCapture", reopened)
    assert [level(frames.frame(index).rgb) for index in (0, 1, 2, 5, 9)] == [0, 1, 2, 5, 9]
    with pytest.raises(AssertionError, match="opened again"):
        frames.frame(0)


def test_a_cut_off_video_ends_where_it_ends(tmp_path: Path) -> None:
    path = video(tmp_path / "x.avi", 40, "MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = open_frames(path)
    assert 5 < len(frames) < 35
    assert level(frames.frame(len(frames) - 1).rgb) == len(frames) - 1


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
    script = "import sys; from mmdistill.reference.data.frames import open_frames; open_frames(sys.argv[1])"
    command = [sys.executable, "-c", script, str(tmp_path / "bad.mp4")]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()
    traceback = [line for line in said if line.startswith(("Traceback", " "))]
    assert said[len(traceback) :] == [
        f"mmdistill.reference.errors.DataError: {tmp_path / 'bad.mp4'}: cannot open the video"
    ]
