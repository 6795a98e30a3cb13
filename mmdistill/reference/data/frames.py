"""Frames of one's own video: a folder of images or a video file for each modality, read side by side."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from mmdistill.pair import Pair
from mmdistill.reference.data.images import SUFFIXES, list_images, read_image
from mmdistill.reference.data.sequence import FramePair, Image
from mmdistill.reference.errors import DataError

logger = logging.getLogger(__name__)


class Source(Protocol):
    """The frames of one modality."""

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def frame(self, index: int) -> Image:
        """Return frame ``index`` as ``(H, W, 3)`` RGB."""
        ...


class ImageFolder:
    """The images of a folder, in natural order of their names."""

    def __init__(self, folder: str | Path) -> None:
        self.files = list_images(folder)

    def __len__(self) -> int:
        return len(self.files)

    def frame(self, index: int) -> Image:
        """Return frame ``index`` as ``(H, W, 3)`` RGB; a file that is no image raises DataError."""
        return read_image(self.files[index])


class VideoFile:
    """The frames of a video file.

    Reading on is cheap; going back opens the file again, because seeking is not exact in every video.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._capture = self._open()
        self._next = 0
        self._length = self._count()

    def __len__(self) -> int:
        return self._length

    def frame(self, index: int) -> Image:
        """Return frame ``index`` as ``(H, W, 3)`` RGB.

        Raises:
            IndexError: the video has no such frame.
            DataError: the frame cannot be decoded.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: frame {index} of {len(self)}")
        if index < self._next:
            self._capture, self._next = self._open(), 0
        while self._next < index and self._capture.grab():
            self._next += 1
        decoded, image = self._capture.read()
        if not decoded:
            raise DataError(f"{self.path}: cannot decode frame {self._next} of {len(self)}")
        self._next += 1
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def _open(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise DataError(f"{self.path}: expected a folder of images or a video file, there is none")
        if self.path.suffix.lower() in SUFFIXES:
            raise DataError(f"{self.path}: expected a folder of images or a video file, got one image")
        # The decoder's own complaints would stand beside the one line that names the file.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        capture = cv2.VideoCapture(str(self.path))
        cv2.utils.logging.setLogLevel(level)
        if not capture.isOpened():
            raise DataError(f"{self.path}: cannot open the video")
        return capture

    def _count(self) -> int:
        """Return the number of frames: the one that the file states if its last frame is there, else counted."""
        stated = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        probe = self._open()
        probe.set(cv2.CAP_PROP_POS_FRAMES, stated - 1)
        if stated > 0 and probe.grab() and not probe.grab():
            return stated
        probe, counted = self._open(), 0
        while probe.grab():
            counted += 1
        if not counted:
            raise DataError(f"{self.path}: the video has no frame that can be decoded")
        return counted


class Frames:
    """The frames of both modalities; see ``open_frames``.

    Args:
        rgb: the RGB frames, or None.
        tir: the TIR frames, or None; frames of another size than RGB's are resized to it, which is logged once.
        where: what the two are called in errors.

    Raises:
        DataError: neither is given, or they differ in length.
    """

    def __init__(self, rgb: Source | None, tir: Source | None, *, where: Pair[str]) -> None:
        if rgb is None and tir is None:
            raise DataError("frames: expected an RGB or a TIR source or both, got neither")
        if rgb is not None and tir is not None and len(rgb) != len(tir):
            raise DataError(
                f"expected as many RGB as TIR frames, got {len(rgb)} in {where.rgb} and {len(tir)} in {where.tir}"
            )
        self._sources = Pair(rgb, tir)
        self._where = where
        self._said_resized = False

    def __len__(self) -> int:
        return max(len(source) for source in self._sources if source is not None)

    def frame(self, index: int) -> FramePair:
        """Return frame ``index`` (from 0); the modality that has no source is None."""
        rgb, tir = (None if source is None else source.frame(index) for source in self._sources)
        if rgb is not None and tir is not None and rgb.shape != tir.shape:
            tir = self._resized(tir, rgb.shape[1], rgb.shape[0])
        return Pair(rgb, tir)

    @property
    def size(self) -> tuple[int, int]:
        """The width and height in pixels, of RGB, or of TIR where it is alone."""
        rgb, tir = self.frame(0)
        height, width = next(image for image in (rgb, tir) if image is not None).shape[:2]
        return width, height

    def _resized(self, tir: Image, width: int, height: int) -> Image:
        if not self._said_resized:
            given = f"{tir.shape[1]} x {tir.shape[0]}"
            logger.warning("%s: TIR of %s is resized to RGB's %d x %d", self._where.tir, given, width, height)
            self._said_resized = True
        return np.asarray(cv2.resize(tir, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def open_frames(rgb: str | Path | None = None, tir: str | Path | None = None) -> Frames:
    """Open a video of RGB, of TIR, or of both: for each a folder of images or a video file.

    Raises:
        DataError: neither is given, a source is missing or unreadable, or the frame counts differ.
    """
    return Frames(_open_source(rgb), _open_source(tir), where=Pair(str(rgb), str(tir)))


def _open_source(path: str | Path | None) -> Source | None:
    if path is None:
        return None
    return ImageFolder(path) if Path(path).is_dir() else VideoFile(path)
