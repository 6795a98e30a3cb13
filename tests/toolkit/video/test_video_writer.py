from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.video import VideoFile, VideoWriter, video_writer

FORMATS = pytest.mark.parametrize(
    "suffix",
    [
        ".mp4",
        ".webm",
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
    tolerance = 20 if suffix == ".gif" else 4
    np.testing.assert_allclose(np.mean(played, axis=(1, 2)), np.mean(written, axis=(1, 2)), atol=tolerance)
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


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".webm", "vp9")])
@pytest.mark.parametrize("size", [(48, 64), (181, 321)])
def test_frames_are_close_to_what_was_written(tmp_path: Path, suffix: str, codec: str, size: tuple[int, int]) -> None:
    """Decoded by OpenCV's own FFmpeg; smooth pictures, so that halved colors cost little."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    written = []
    for shift in range(6):
        waves = [127 + 90 * np.sin(x / 40 + shift / 3), 127 + 90 * np.cos(y / 30), 127 + 60 * np.sin((x + y) / 50)]
        written.append(np.stack(waves, axis=2).astype(np.uint8))
    path = tmp_path / f"x{suffix}"
    write(path, written)
    played = read(path)
    assert len(played) == 6
    for image, original in zip(played, written, strict=True):
        assert image.shape == (height + height % 2, width + width % 2, 3)
        error = np.mean((image[:height, :width].astype(float) - original) ** 2)
        assert 10 * np.log10(255**2 / error) > 36
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == (codec, "yuv420p")
        assert video.codec_context.colorspace == video.codec_context.color_primaries == 1


def test_the_index_goes_before_the_frames(tmp_path: Path) -> None:
    """So that a browser plays the file before it has all of it."""
    write(tmp_path / "x.mp4", frames(3))
    data = (tmp_path / "x.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGE = """<video src="track{}" muted></video><pre></pre><script>
const video = document.querySelector('video'), out = document.querySelector('pre');
video.onerror = () => {{ out.textContent = 'error: ' + video.error.message; }};
video.onloadeddata = () => {{ video.currentTime = 1.5; }};
video.onseeked = () => {{
  const canvas = document.createElement('canvas');
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0);
  const pixel = Array.from(context.getImageData(9, 9, 1, 1).data).slice(0, 3);
  out.textContent = JSON.stringify([video.duration, video.videoWidth, video.videoHeight, ...pixel]);
}};</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_browser_plays_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"track{suffix}"
    # The second half is orange.
    colors = [(20, 60, 200)] * 10 + [(230, 120, 30)] * 10
    write(path, [np.full((48, 64, 3), color, np.uint8) for color in colors])
    (tmp_path / "page.html").write_text(PAGE.format(suffix))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom"]
    page = subprocess.run([*command, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=60)
    found = re.search(r"<pre>(.*?)</pre>", page.stdout)
    assert found is not None, page.stderr[-2000:]
    if "error" in found[1] and suffix == ".mp4" and "DEMUXER_ERROR_NO_SUPPORTED_STREAMS" in found[1]:
        pytest.skip("this Chromium is built without H.264")
    duration, width, height, *pixel = json.loads(found[1])
    assert duration == pytest.approx(2.0, abs=0.05)
    assert (width, height) == (64, 48)
    np.testing.assert_allclose(pixel, colors[-1], atol=8)


@pytest.mark.parametrize("suffix", [".MP4", ".webm"])
@pytest.mark.parametrize("fps", [0.01, 12.5, 30000 / 1001, 1000])
def test_frame_rate(tmp_path: Path, suffix: str, fps: float) -> None:
    path = tmp_path / f"track{suffix}"
    write(path, frames(4), fps=fps)
    times = VideoFile(path).times()
    np.testing.assert_allclose(times, np.arange(4) / fps, atol=6e-4)  # WebM rounds to milliseconds


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


def test_an_ffmpeg_without_the_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4", "libvpx"})
    with pytest.raises(DataError, match=r"track\.mp4: expected .*libx264 or libopenh264; try \.webm or \.gif"):
        write(tmp_path / "track.mp4", frames(1))
    assert not list(tmp_path.iterdir())
    write(tmp_path / "track.webm", frames(2))
    with av.open(str(tmp_path / "track.webm")) as file:
        assert file.streams.video[0].codec_context.name == "vp8"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("limit", [10, 40_000])
def test_a_full_disk(tmp_path: Path, suffix: str, limit: int) -> None:
    import resource

    noise = list(np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3)).astype(np.uint8))
    path = tmp_path / f"track{suffix}"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DataError, match=rf"track\{suffix}: cannot write the video: File too large"):
            write(path, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_format_opencv_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imwriteanimation", lambda *_: False, raising=False)
    with pytest.raises(DataError, match=r"track.gif: OpenCV .* can't write this format here; try .mp4 or .webm"):
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
        "the GIF ends after 4 frames to save memory; .mp4 and .webm have no limit"
    ]
