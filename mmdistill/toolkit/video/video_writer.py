"""Writes video files that browsers play."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, cast

import cv2
import numpy as np

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import temporary_path, to_opencv_path
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.video.decoding import explain

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

MAX_FPS = 1000

ENCODERS: dict[str, dict[str, dict[str, str]]] = {
    ".mp4": {"libx264": {"preset": "veryfast", "crf": "20"}, "libopenh264": {"b": "8M"}},
    ".webm": {
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "crf": "30", "b": "0"},
        "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "8M"},
    },
}
"""FFmpeg's encoders with their options, by suffix. The first available one is used, as FFmpeg can be built without."""

BT709 = 1
"""The color space of HD video in FFmpeg's numbers. It is stated in the file; otherwise players guess it by the size."""


class VideoWriter:
    """Writes frames to a video file: ``.mp4`` (H.264), ``.webm`` (VP9) or animated ``.gif``; a context manager.

    A temporary file replaces ``path`` when the block ends. After an error or an interruption the video has the frames
    so far. Without a frame nothing is written. A GIF is kept in memory and ends, with a warning, at 256 MiB.

    Args:
        path: the file to write. An existing file is replaced, missing folders are created.
        fps: frames per second, above 0, at most 1000.

    Raises:
        DataError: the suffix, the name or the frame rate is invalid, frames differ in size, or the file can't be
            written.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self._path = Path(path)
        suffix = self._path.suffix.lower()
        if suffix not in (*ENCODERS, ".gif"):
            raise DataError(f"{path}: expected the name of a video, .mp4, .webm or .gif")
        if not 0 < fps <= MAX_FPS:
            raise DataError(f"{path}: expected frames per second above 0, at most {MAX_FPS}; got {fps}")
        self._temporary = temporary_path(self._path)
        self._encoder: _Encoder
        if suffix == ".gif":
            to_opencv_path(self._path)
            self._encoder = _Gif(self._temporary, self._path, fps)
        else:
            self._encoder = _Compressed(self._temporary, self._path, fps)
        self._shape: tuple[int, ...] | None = None

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, image: Image) -> None:
        """Append a frame ``(H, W, 3)``, uint8, RGB; all frames must have one size."""
        self._shape = self._shape or image.shape
        if image.shape != self._shape:
            raise DataError(f"{self._path}: expected frames of shape {self._shape}, got {image.shape}")
        self._encoder.write(image)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if self._shape is not None and self._encoder.close():
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)


class _Encoder(Protocol):
    """Encodes frames; both methods raise DataError if they fail."""

    def write(self, image: Image) -> None:
        """Append a frame ``(H, W, 3)``, RGB."""
        ...

    def close(self) -> bool:
        """Complete the file, and return whether there is one."""
        ...


class _Compressed:
    """Encodes each frame when it is written, by FFmpeg.

    Args:
        file: the file to write.
        path: the name that it gets, for errors.
        fps: frames per second.
    """

    def __init__(self, file: Path, path: Path, fps: float) -> None:
        import av  # here, because ``--help`` does not need it
        from av.video.reformatter import VideoReformatter

        self._av, self._reformatter = av, VideoReformatter()
        self._file, self._path = file, path
        self._rate = max(Fraction(fps).limit_denominator(100_000), Fraction(1, 100_000))
        self._container: OutputContainer | None = None
        self._stream: VideoStream
        self._frames = 0

    def write(self, image: Image) -> None:
        # The codecs store colors at half the size, so sizes are even.
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = self._reformatter.reformat(frame, format="yuv420p", dst_colorspace=BT709)
        frame.pts, frame.time_base = self._frames, 1 / self._rate
        self._frames += 1
        try:
            container = self._container or self._open(image)
            container.mux(self._stream.encode(frame))
        except self._av.FFmpegError as error:
            raise self._fail(error) from error

    def close(self) -> bool:
        if self._container is None:
            return False
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
        except self._av.FFmpegError as error:
            raise self._fail(error) from error
        return True

    def _open(self, image: Image) -> OutputContainer:
        suffix = self._path.suffix.lower()
        name = next((name for name in ENCODERS[suffix] if name in self._av.codecs_available), None)
        if name is None:
            expected = " or ".join(ENCODERS[suffix])
            others = " or ".join(other for other in (*ENCODERS, ".gif") if other != suffix)
            raise DataError(f"{self._path}: expected an FFmpeg with {expected}; try {others}")
        # The index goes before the frames, so that a browser plays the file while it loads.
        options = {"movflags": "+faststart"} if suffix == ".mp4" else {}
        self._container = self._av.open(f"file:{self._file}", "w", format=suffix[1:], container_options=options)
        stream = self._container.add_stream(name, rate=self._rate, options=ENCODERS[suffix][name])
        self._stream = cast("VideoStream", stream)
        self._stream.height, self._stream.width = image.shape[:2]
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = BT709
        return self._container

    def _fail(self, error: Exception) -> DataError:
        self._container = None  # PyAV crashes if it closes a container whose header is not written
        return DataError(f"{self._path}: cannot write the video: {explain(error)}")


class _Gif:
    """Keeps the frames in memory and encodes them at the end, by OpenCV."""

    _supported = hasattr(cv2, "imwriteanimation")  # since OpenCV 4.11
    _max_bytes = 256 * 2**20

    def __init__(self, file: Path, path: Path, fps: float) -> None:
        self._file, self._path, self._milliseconds = file, path, max(1, round(1000 / fps))
        self._frames: list[Image] = []
        self._full = False

    def write(self, image: Image) -> None:
        if not self._supported:
            raise self._cannot_write()
        if self._full:
            return
        self._full = (len(self._frames) + 1) * image.nbytes > self._max_bytes
        if self._full:
            logger.warning(
                "the GIF ends after %d frames to save memory; .mp4 and .webm have no limit", len(self._frames)
            )
        else:
            self._frames.append(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), dtype=np.uint8))

    def close(self) -> bool:
        animation = cv2.Animation()
        animation.frames = self._frames
        animation.durations = [self._milliseconds] * len(self._frames)
        try:
            written = bool(cv2.imwriteanimation(str(self._file), animation))
        except cv2.error:
            written = False
        if not written:
            raise self._cannot_write()
        return True

    def _cannot_write(self) -> DataError:
        return DataError(f"{self._path}: OpenCV {cv2.__version__} can't write this format here; try .mp4 or .webm")
