"""The time of each frame: of a video, of names of images, of the modality that counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from films import numbered_film, numbered_folder

from mmdistill.toolkit.video import open_frames


def times(*arguments: Path | None, **options: str) -> list[float | None]:
    return [reading.time for reading in open_frames(*arguments, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_the_times_of_a_video(tmp_path: Path, suffix: str) -> None:
    video = numbered_film(tmp_path / f"a{suffix}", 8, 12.5)
    assert times(None, video) == pytest.approx([each / 12.5 for each in range(8)], abs=1e-3)
    frames = open_frames(video)
    assert [frames.read(index).time for index in (5, 2)] == pytest.approx([0.4, 0.16], abs=1e-3)


def test_rgb_has_the_time_of_a_pair(tmp_path: Path) -> None:
    rgb, tir = numbered_film(tmp_path / "a.mp4", 6, 10), numbered_film(tmp_path / "b.mp4", 12, 20)
    assert times(rgb, tir, pair_by="time") == pytest.approx([each / 10 for each in range(6)], abs=1e-3)


def test_the_times_in_names(tmp_path: Path) -> None:
    assert times(numbered_folder(tmp_path / "a", ["1628087349.05", "1628087349.1"])) == [1628087349.05, 1628087349.1]
    assert times(numbered_folder(tmp_path / "b", ["1628087349000", "1628087349250"])) == [1628087349.0, 1628087349.25]
    assert times(numbered_folder(tmp_path / "c", ["0001", "0002"])) == [None, None]
    assert times(numbered_folder(tmp_path / "d", ["0000000001", "0000000002"])) == [None, None]
