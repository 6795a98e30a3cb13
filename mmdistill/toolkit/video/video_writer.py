"""Writes video files."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Protocol

import cv2
import numpy as np

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import temporary_path, to_opencv_path
from mmdistill.toolkit.sequence import Image

logger = logging.getLogger(__name__)

MAX_FPS = 1000


class VideoWriter:
    """Writes frames to a video file, ``.mp4`` (MPEG-4) or animated ``.gif``; a context manager.

    A temporary file replaces ``path`` when the block ends. After an error or an interruption the video has the frames
    so far. Without a frame nothing is written. A GIF is kept in memory and ends, with a warning, at 256 MiB.

    Args:
        path: the file to write. An existing file is replaced, missing folders are created.
        fps: frames per second, above 0, at most 1000.

    Raises:
        DataError: the suffix, the name or the frame rate is invalid, frames differ in size, or OpenCV can't write the
            format.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self._path = Path(path)
        encoders: dict[str, type[_Mp4] | type[_Gif]] = {".mp4": _Mp4, ".gif": _Gif}
        if self._path.suffix.lower() not in encoders:
            raise DataError(f"{path}: expected the name of a video, .mp4 or .gif")
        if not 0 < fps <= MAX_FPS:
            raise DataError(f"{path}: expected frames per second above 0, at most {MAX_FPS}; got {fps}")
        to_opencv_path(self._path)
        self._temporary = temporary_path(self._path)
        self._encoder: _Encoder = encoders[self._path.suffix.lower()](self._temporary, fps)
        self._shape: tuple[int, ...] | None = None

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, image: Image) -> None:
        """Append a frame ``(H, W, 3)``, uint8, RGB; all frames must have one size."""
        self._shape = self._shape or image.shape
        if image.shape != self._shape:
            raise DataError(f"{self._path}: expected frames of shape {self._shape}, got {image.shape}")
        if not self._encoder.write(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), dtype=np.uint8)):
            raise self._cannot_write()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if self._shape is not None:
                if not self._encoder.close():
                    raise self._cannot_write()
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _cannot_write(self) -> DataError:
        other = ".gif" if self._path.suffix.lower() == ".mp4" else ".mp4"
        return DataError(f"{self._path}: OpenCV {cv2.__version__} can't write this format here; try {other}")


class _Encoder(Protocol):
    """Encodes frames ``(H, W, 3)`` in BGR order; both methods return whether OpenCV supports it."""

    def write(self, image: Image) -> bool: ...

    def close(self) -> bool: ...


class _Mp4:
    """Encodes each frame when it is written."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: cv2.VideoWriter | None = None

    def write(self, image: Image) -> bool:
        # The codec supports even sizes only.
        height, width = image.shape[:2]
        even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self._writer is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._path), code, self._fps, even.shape[1::-1])
        self._writer.write(even)
        return self._writer.isOpened()

    def close(self) -> bool:
        if self._writer is not None:
            self._writer.release()
        return self._path.exists()


class _Gif:
    """Keeps the frames in memory and encodes them at the end."""

    _supported = hasattr(cv2, "imwriteanimation")  # since OpenCV 4.11
    _max_bytes = 256 * 2**20

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._milliseconds = path, max(1, round(1000 / fps))
        self._frames: list[Image] = []
        self._full = False

    def write(self, image: Image) -> bool:
        if self._full:
            return self._supported
        self._full = (len(self._frames) + 1) * image.nbytes > self._max_bytes
        if self._full:
            logger.warning("the GIF ends after %d frames to save memory; .mp4 has no limit", len(self._frames))
        else:
            self._frames.append(image)
        return self._supported

    def close(self) -> bool:
        if not self._supported:
            return False
        animation = cv2.Animation()
        animation.frames = self._frames
        animation.durations = [self._milliseconds] * len(self._frames)
        try:
            return bool(cv2.imwriteanimation(str(self._path), animation))
        except cv2.error:
            return False
