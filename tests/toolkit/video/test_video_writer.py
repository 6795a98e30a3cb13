from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.video import VideoWriter, video_writer

FORMATS = pytest.mark.parametrize(
    "suffix",
    [
        ".mp4",
        pytest.param(
            ".gif", marks=pytest.mark.skipif(not hasattr(cv2, "imwriteanimation"), reason="this OpenCV has no GIF")
        ),
    ],
)


def frames(count: int, height: int = 48, width: int = 64) -> list[Image]:
    """Plain frames that go from red to blue."""
    images = np.zeros((count, height, width, 3), np.uint8)
    images[..., 0] = np.linspace(250, 0, count)[:, None, None]
    images[..., 2] = np.linspace(0, 250, count)[:, None, None]
    return list(images)


def read(path: Path) -> list[Image]:
    """Return a video's frames, RGB."""
    if path.suffix.lower() == ".gif":
        played, animation = cv2.imreadanimation(str(path))
        assert played
        return [image[..., 2::-1] for image in animation.frames]
    capture = cv2.VideoCapture(str(path))
    images = []
    while (step := capture.read())[0]:
        images.append(step[1][..., ::-1])
    return images


def write(path: Path, images: list[Image], *, fps: float = 10, then: type[BaseException] | None = None) -> None:
    with VideoWriter(path, fps) as video:
        for image in images:
            video.write(image)
        if then is not None:
            raise then


@FORMATS
def test_a_video_plays_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"track{suffix}"
    written = frames(12)
    with VideoWriter(path, 25) as video:
        for image in written:
            video.write(image)
        assert not path.exists()
    played = read(path)
    assert len(played) == 12
    # Codecs lose a little, GIF's palette more; red and blue must not be swapped.
    np.testing.assert_allclose(np.mean(played, axis=(1, 2)), np.mean(written, axis=(1, 2)), atol=20)
    assert list(path.parent.iterdir()) == [path]


@FORMATS
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_video_plays_the_frames_so_far(tmp_path: Path, suffix: str, error: type[BaseException]) -> None:
    path = tmp_path / f"track{suffix}"
    with pytest.raises(error):
        write(path, frames(5), then=error)
    assert len(read(path)) == 5
    assert list(tmp_path.iterdir()) == [path]


@FORMATS
def test_no_frames_leave_what_was_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"track{suffix}"
    path.write_bytes(b"old")
    write(path, [])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_frame_rate(tmp_path: Path) -> None:
    write(tmp_path / "track.MP4", frames(3), fps=12.5)
    assert cv2.VideoCapture(str(tmp_path / "track.MP4")).get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)


@pytest.mark.skipif(not hasattr(cv2, "imwriteanimation"), reason="this OpenCV has no GIF")
def test_gif_frame_rate(tmp_path: Path) -> None:
    write(tmp_path / "track.gif", frames(3), fps=20)
    assert set(np.ravel(cv2.imreadanimation(str(tmp_path / "track.gif"))[1].durations)) == {50}


def test_odd_sizes_are_padded(tmp_path: Path) -> None:
    write(tmp_path / "track.mp4", frames(3, height=47, width=63))
    assert [image.shape for image in read(tmp_path / "track.mp4")] == [(48, 64, 3)] * 3


def test_frames_of_another_size_are_refused_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "track.mp4"
    with pytest.raises(DataError, match=r"track.mp4: expected .*\(48, 64, 3\), got \(24, 64, 3\)"):
        write(path, frames(1) + frames(1, height=24))
    assert len(read(path)) == 1


@pytest.mark.parametrize(("name", "fps"), [("track.avi", 10), ("track", 10), ("track.mp4", 0), ("a.gif", np.nan)])
def test_wrong_arguments(tmp_path: Path, name: str, fps: float) -> None:
    with pytest.raises(DataError, match=name):
        VideoWriter(tmp_path / name, fps)


def test_a_format_opencv_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imwriteanimation", lambda *_: False, raising=False)
    with pytest.raises(DataError, match=r"track.gif: OpenCV .* can't write this format here; try .mp4"):
        write(tmp_path / "track.gif", frames(1))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(cv2, "imwriteanimation"), reason="this OpenCV has no GIF")
def test_a_gif_ends_before_it_fills_memory_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(video_writer._Gif, "_max_bytes", 4 * 48 * 64 * 3)
    write(tmp_path / "track.gif", frames(9))
    assert len(read(tmp_path / "track.gif")) == 4
    assert [record.getMessage() for record in caplog.records] == [
        "the GIF ends after 4 frames to save memory; .mp4 has no limit"
    ]
