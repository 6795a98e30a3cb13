"""A video file as frames.

What a video file's container states of its length, to tell a recording that is cut off from one that is whole.
"""

from __future__ import annotations

import os
import re
import struct
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.image_files import SUFFIXES
from mmdistill.toolkit.images import Pixels, check_pixels, is_thermal, to_rgb
from mmdistill.toolkit.io import check_regular_file, to_opencv_path
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.video.pairing import VIDEO_RATE_TOLERANCE, Times
from mmdistill.toolkit.video.thermal_range import SteadyRange

LARGEST_MOVIE_BOX = 2**28

SLACK = 0.5
"""Seconds by which pictures may end before a container's stated duration: sound is often longer."""

SLACK_SHARE = 0.01
"""The same as a share of the duration."""


class Stated(NamedTuple):
    """What a container states.

    Attributes:
        counts: whether it counts its frames; else decoders compute their number from the duration, which is not exact.
        duration: seconds, where that is another one than the frames' number times their rate, as after trimming.
        cut: whether the file is smaller than it states.
        whole: whether the file has the size that it states; its duration may then be that of longer sound.
        one_more: whether the count may be one too many: AVI files count chunks, the last of which may show no picture.
    """

    counts: bool = False
    duration: float | None = None
    cut: bool = False
    whole: bool = False
    one_more: bool = False


def read_container(path: Path) -> Stated:
    """Return what a video file's container states of its length: AVI, MP4 or Matroska; of others nothing is known."""
    with path.open("rb") as file:
        start = file.read(64)
        size = path.stat().st_size
        try:
            if start[:4] == b"RIFF":
                return Stated(counts=True, one_more=8 + struct.unpack_from("<I", start, 4)[0] <= size)
            if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
                return _read_mp4(file, size)
            if start[:4] == b"\x1a\x45\xdf\xa3":
                end = _matroska_end(start)
                return Stated(cut=end > size, whole=0 < end <= size)
        except (struct.error, IndexError, ValueError):
            pass
    return Stated()


def shortfall(path: Path, stated: int, counted: int, last: float, rate: float) -> str:
    """Return what a recording lacks that ends earlier than it states; empty if it is whole.

    Args:
        path: the file.
        stated: how many frames it states.
        counted: how many can be decoded.
        last: when the last of them was taken, seconds from the start.
        rate: frames per second, as stated.
    """
    if counted >= stated:
        return ""
    container = read_container(path)
    if container.whole or (container.one_more and counted == stated - 1):
        return ""
    if container.counts:
        return f"{path}: states {stated} frames, {counted} can be decoded"
    duration = stated / rate if container.duration is None else container.duration
    end = last + 1 / rate
    if container.cut or duration - end > max(SLACK, SLACK_SHARE * duration, 2 / rate):
        return f"{path}: states {duration:.2f} seconds, about {stated} frames, {counted} can be decoded ({end:.2f} s)"
    return ""


def _read_mp4(file: BinaryIO, size: int) -> Stated:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length, kind = struct.unpack_from(">I4s", header)
        if length == 1:
            length = struct.unpack_from(">Q", header, 8)[0]
        if kind == b"moov" and length <= LARGEST_MOVIE_BOX:
            file.seek(position)
            return _read_movie(file.read(length))
        if length < 8:
            break
        position += length
    return Stated(counts=True)


def _read_movie(movie: bytes) -> Stated:
    if b"mvex" in movie:  # in fragments: they are not counted
        return Stated()
    scale, duration = _scale_and_duration(movie, movie.index(b"mvhd"))
    trimmed = any(_is_trimmed(movie, found.start(), scale) for found in re.finditer(b"elst", movie))
    return Stated(counts=False, duration=duration / scale) if trimmed else Stated(counts=True)


def _scale_and_duration(movie: bytes, header: int) -> tuple[int, int]:
    """Return the units per second and the duration in them that a movie's or track's header states."""
    long = movie[header + 4] == 1
    scale, duration = struct.unpack_from(">IQ" if long else ">II", movie, header + (24 if long else 16))
    return scale, duration


def _is_trimmed(movie: bytes, edit: int, scale: int) -> bool:
    """Whether a track's edit list leaves frames out, at its start or end.

    Args:
        movie: the file's index.
        edit: where the list is in it.
        scale: the list's units per second.
    """
    form = ">Qqi" if movie[edit + 4] == 1 else ">Iii"
    entries = struct.unpack_from(">I", movie, edit + 8)[0]
    listed = movie[edit + 12 : edit + 12 + struct.calcsize(form) * entries]
    shown, starts, _ = zip(*struct.iter_unpack(form, listed), strict=True)
    track = movie.index(b"mdhd", edit)
    units, length = _scale_and_duration(movie, track)
    return bool(max(starts) > 0 or sum(shown) / scale < length / units - 1e-2)


def _matroska_end(start: bytes) -> int:
    """Return where the segment of a Matroska file is to end; 0 where it does not say."""
    length, position = _vint(start, 4)
    position += length
    if start[position : position + 4] != b"\x18\x53\x80\x67":
        return 0
    length, position = _vint(start, position + 4)
    return position + length if length < 2**55 else 0


def _vint(data: bytes, position: int) -> tuple[int, int]:
    """Return a Matroska number of variable length, and where it ends."""
    width = 9 - data[position].bit_length()
    value = int.from_bytes(data[position : position + width], "big") & ((1 << 7 * width) - 1)
    if value == (1 << 7 * width) - 1:  # unknown, as of a live recording
        value = 2**56
    return value, position + width


class VideoFile:
    """The frames of a video file, of 8 bits or of 16-bit gray; those of 16 bits share a range, see ``SteadyRange``.

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
        check_regular_file(self.path)
        if self.path.suffix.lower() in SUFFIXES:
            raise DataError(f"{self.path}: expected a folder of images or a video file, got one image")
        # The decoder's own complaints would stand beside the one line that names the file.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        capture = cv2.VideoCapture(to_opencv_path(self.path))
        cv2.utils.logging.setLogLevel(level)
        if not capture.isOpened():
            raise DataError(f"{self.path}: cannot open the video")
        if _is_deep_gray(capture):
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


def _is_deep_gray(capture: cv2.VideoCapture) -> bool:
    """Whether the video is gray of more than 8 bits: FFmpeg's tag of that pixel format is ``Y1``, 0, bits."""
    tag = int(capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)).to_bytes(4, "little", signed=False)
    return tag[:3] == b"Y1\0" and 8 < tag[3] <= 16
