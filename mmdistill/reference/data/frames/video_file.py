"""A video file as frames."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from mmdistill.reference.data.frames.containers import shortfall
from mmdistill.reference.data.frames.steady_range import SteadyRange
from mmdistill.reference.data.frames.times import VIDEO_RATE_TOLERANCE, Times
from mmdistill.reference.data.image_files import SUFFIXES
from mmdistill.reference.data.images import Pixels, check_pixels, is_thermal, to_rgb
from mmdistill.reference.data.sequence import Image
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import check_regular, opencv_name


class VideoFile:
    """The frames of a video file, of 8 bits or of 16-bit grey; those of 16 bits share a range, see ``SteadyRange``.

    Reading on is cheap; going back opens the file again, because seeking is not exact in every video. A file that ends
    before its stated length has that length; the frames that are not there can't be read.

    Attributes:
        path: the file.
        rate: frames per second, as the file states; None where it does not.
        shortfall: what the file lacks if it ends before its stated length; else empty.
        available: how many frames can be decoded.

    Raises:
        DataError: no such file, an image, or no video that can be decoded.
    """

    named_by_time = False
    rate_tolerance = VIDEO_RATE_TOLERANCE

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._range = SteadyRange()
        self._capture = self._open()
        self._next = 0
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate: float | None = float(rate) if np.isfinite(rate) and rate > 0 else None
        self.available, self._length, self.shortfall = self._count()

    def __len__(self) -> int:
        return self._length

    @cached_property
    def _times(self) -> Times | None:
        capture, times = self._open(), []
        for _ in range(self.available):
            if not capture.grab():
                break
            times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        if len(times) == self.available and (np.diff(times) > 0).all():
            return np.array(times)
        return None if self.rate is None else np.arange(self.available) / self.rate

    def times(self) -> Times | None:
        """Return when each frame that can be decoded is shown ``(T,)``, seconds; the file is read once for it."""
        return self._times

    def frame(self, index: int) -> Image:
        """Return frame ``index`` as ``(H, W, 3)`` RGB.

        Raises:
            IndexError: the video has no such frame.
            DataError: the frame cannot be decoded; the next one can be asked for.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: frame {index} of {len(self)}")
        if index >= self.available:
            raise DataError(self.shortfall)
        if index < self._next:
            self._capture, self._next = self._open(), 0
        while self._next < index:
            self._pass()
        pixels = self._decoded()
        if pixels is None:
            raise DataError(f"{self.path}: cannot decode frame {index + 1} of {len(self)}")
        check_pixels(pixels, f"{self.path}: frame {index + 1}")
        return to_rgb(pixels, self._range.at(index, pixels) if is_thermal(pixels) else None)

    def _pass(self) -> None:
        """Go past a frame; it is decoded only if the range depends on it."""
        if self._next in self._range.unmeasured(self._next):
            self._decoded()
        else:
            self._capture.grab()
            self._next += 1

    def _decoded(self) -> Pixels | None:
        decoded, pixels = self._capture.read()
        self._range.measure(self._next, pixels if decoded else None)
        self._next += 1
        return pixels if decoded else None

    def _open(self) -> cv2.VideoCapture:
        if not self.path.exists():
            raise DataError(f"{self.path}: expected a folder of images or a video file, there is none")
        check_regular(self.path)
        if self.path.suffix.lower() in SUFFIXES:
            raise DataError(f"{self.path}: expected a folder of images or a video file, got one image")
        # The decoder's own complaints would stand beside the one line that names the file.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        capture = cv2.VideoCapture(opencv_name(self.path))
        cv2.utils.logging.setLogLevel(level)
        if not capture.isOpened():
            raise DataError(f"{self.path}: cannot open the video")
        if _is_deep_grey(capture):
            capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)  # or the decoder halves the bits
        return capture

    def _count(self) -> tuple[int, int, str]:
        """Return how many frames can be decoded, how many there are to be, and what is lacking.

        The number that the file states is right if its last frame is there; else frames are counted.
        """
        stated = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        probe = self._open()
        probe.set(cv2.CAP_PROP_POS_FRAMES, stated - 1)
        if stated > 0 and probe.grab() and not probe.grab():
            return stated, stated, ""
        probe, counted, last = self._open(), 0, 0.0
        while probe.grab():
            counted += 1
            last = probe.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if not counted:
            raise DataError(f"{self.path}: the video has no frame that can be decoded")
        lacking = "" if self.rate is None else shortfall(self.path, stated, counted, last, self.rate)
        return counted, max(stated, counted) if lacking else counted, lacking


def _is_deep_grey(capture: cv2.VideoCapture) -> bool:
    """Whether the video is grey of more than 8 bits: FFmpeg's tag of that pixel format is ``Y1``, 0, bits."""
    tag = int(capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)).to_bytes(4, "little", signed=False)
    return tag[:3] == b"Y1\0" and 8 < tag[3] <= 16
