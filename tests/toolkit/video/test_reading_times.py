"""The time of each frame: of a video, of names of images, of the modality that counts."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdistill.toolkit.images import write_image
from mmdistill.toolkit.video import open_frames


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (32, 48, 3)).astype(np.uint8)


def film(path: Path, count: int, rate: float) -> Path:
    code = "mp4v" if path.suffix == ".mp4" else "MJPG"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), rate, (48, 32))
    for number in range(count):
        writer.write(picture(number))
    writer.release()
    return path


def folder(path: Path, stems: list[str]) -> Path:
    for number, stem in enumerate(stems):
        write_image(path / f"{stem}.png", picture(number))
    return path


def times(*arguments: Path | None, **options: str) -> list[float | None]:
    return [reading.time for reading in open_frames(*arguments, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_the_times_of_a_video(tmp_path: Path, suffix: str) -> None:
    video = film(tmp_path / f"a{suffix}", 8, 12.5)
    assert times(None, video) == pytest.approx([each / 12.5 for each in range(8)], abs=1e-3)
    frames = open_frames(video)
    assert [frames.read(index).time for index in (5, 2)] == pytest.approx([0.4, 0.16], abs=1e-3)


def test_rgb_has_the_time_of_a_pair(tmp_path: Path) -> None:
    rgb, tir = film(tmp_path / "a.mp4", 6, 10), film(tmp_path / "b.mp4", 12, 20)
    assert times(rgb, tir, pair_by="time") == pytest.approx([each / 10 for each in range(6)], abs=1e-3)


def test_the_times_in_names(tmp_path: Path) -> None:
    assert times(folder(tmp_path / "a", ["1628087349.05", "1628087349.1"])) == [1628087349.05, 1628087349.1]
    assert times(folder(tmp_path / "b", ["1628087349000", "1628087349250"])) == [1628087349.0, 1628087349.25]
    assert times(folder(tmp_path / "c", ["0001", "0002"])) == [None, None]
    assert times(folder(tmp_path / "d", ["0000000001", "0000000002"])) == [None, None]
