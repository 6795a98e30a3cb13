"""Reads video files as frames, and detects truncated files by their container."""

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
from mmdistill.toolkit.images import check_pixels, to_rgb
from mmdistill.toolkit.io import check_regular_file, to_opencv_path
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.thermal import Pixels, ThermalRange, is_thermal
from mmdistill.toolkit.video.pairing import VIDEO_RATE_TOLERANCE
from mmdistill.toolkit.video.reading import Times

MAX_MOVIE_BOX_BYTES = 2**28
"""Size limit of the index of an MP4 file that is read."""

MAX_MISSING_SECONDS = 0.5
"""Maximum time from the last picture to the stated duration; sound is often longer."""

MAX_MISSING_SHARE = 0.01
"""The same as a share of the duration."""


class ContainerInfo(NamedTuple):
    """The length that a container states.

    Attributes:
        has_count: whether the container states the number of frames. Otherwise decoders estimate it from the duration.
        duration: seconds, if it differs from the number of frames times their interval, as after trimming.
        truncated: whether the file is smaller than stated.
        complete: whether the file has its stated size; a longer duration is then the sound's.
        may_count_one_more: whether the count may be one too high: AVI counts chunks, the last may have no picture.
    """

    has_count: bool = False
    duration: float | None = None
    truncated: bool = False
    complete: bool = False
    may_count_one_more: bool = False


def read_container(path: Path) -> ContainerInfo:
    """Return the length that an AVI, MP4 or Matroska file states; empty information for other containers."""
    with path.open("rb") as file:
        start = file.read(64)
        size = path.stat().st_size
        try:
            if start[:4] == b"RIFF":
                stated_size = 8 + struct.unpack_from("<I", start, 4)[0]
                return ContainerInfo(has_count=True, may_count_one_more=stated_size <= size)
            if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
                return _read_mp4(file, size)
            if start[:4] == b"\x1a\x45\xdf\xa3":
                end = _matroska_end(start)
                return ContainerInfo(truncated=end > size, complete=0 < end <= size)
        except (struct.error, IndexError, ValueError):
            pass
    return ContainerInfo()


def describe_truncation(path: Path, stated: int, counted: int, last: float, rate: float) -> str:
    """Return a description of a recording that ends before its stated length; empty if it is complete.

    Args:
        path: the file.
        stated: stated number of frames.
        counted: number of decodable frames.
        last: time of the last decodable frame from the start, seconds.
        rate: stated frames per second.
    """
    if counted >= stated:
        return ""
    container = read_container(path)
    if container.complete or (container.may_count_one_more and counted == stated - 1):
        return ""
    if container.has_count:
        return f"{path}: states {stated} frames, {counted} can be decoded"
    duration = stated / rate if container.duration is None else container.duration
    end = last + 1 / rate
    if container.truncated or duration - end > max(MAX_MISSING_SECONDS, MAX_MISSING_SHARE * duration, 2 / rate):
        return f"{path}: states {duration:.2f} seconds, about {stated} frames, {counted} can be decoded ({end:.2f} s)"
    return ""


def _read_mp4(file: BinaryIO, size: int) -> ContainerInfo:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length, kind = struct.unpack_from(">I4s", header)
        if length == 1:
            length = struct.unpack_from(">Q", header, 8)[0]
        if kind == b"moov" and length <= MAX_MOVIE_BOX_BYTES:
            file.seek(position)
            return _read_movie(file.read(length))
        if length < 8:
            break
        position += length
    return ContainerInfo(has_count=True)


def _read_movie(movie: bytes) -> ContainerInfo:
    if b"mvex" in movie:  # fragments are not counted
        return ContainerInfo()
    scale, duration = _scale_and_duration(movie, movie.index(b"mvhd"))
    trimmed = any(_is_trimmed(movie, match.start(), scale) for match in re.finditer(b"elst", movie))
    return ContainerInfo(duration=duration / scale) if trimmed else ContainerInfo(has_count=True)


def _scale_and_duration(movie: bytes, header: int) -> tuple[int, int]:
    """Return the units per second and the duration in units from the header of a movie or a track."""
    long = movie[header + 4] == 1
    scale, duration = struct.unpack_from(">IQ" if long else ">II", movie, header + (24 if long else 16))
    return scale, duration


def _is_trimmed(movie: bytes, edit: int, scale: int) -> bool:
    """Return whether a track's edit list drops frames at its start or end.

    Args:
        movie: the file's index.
        edit: offset of the edit list in the index.
        scale: the list's units per second.
    """
    entry = ">Qqi" if movie[edit + 4] == 1 else ">Iii"
    count = struct.unpack_from(">I", movie, edit + 8)[0]
    entries = movie[edit + 12 : edit + 12 + struct.calcsize(entry) * count]
    durations, starts, _ = zip(*struct.iter_unpack(entry, entries), strict=True)
    track = movie.index(b"mdhd", edit)
    units, length = _scale_and_duration(movie, track)
    return bool(max(starts) > 0 or sum(durations) / scale < length / units - 1e-2)


def _matroska_end(start: bytes) -> int:
    """Return the stated end of the segment of a Matroska file, bytes; 0 if not stated."""
    length, position = _vint(start, 4)
    position += length
    if start[position : position + 4] != b"\x18\x53\x80\x67":
        return 0
    length, position = _vint(start, position + 4)
    return position + length if length < 2**55 else 0


def _vint(data: bytes, position: int) -> tuple[int, int]:
    """Return a Matroska number of variable length, and the offset after it."""
    width = 9 - data[position].bit_length()
    value = int.from_bytes(data[position : position + width], "big") & ((1 << 7 * width) - 1)
    if value == (1 << 7 * width) - 1:  # unknown, as of a live recording
        value = 2**56
    return value, position + width


class VideoFile:
    """The frames of a video file of 8-bit color or 16-bit gray; 16-bit frames share a range, see ``ThermalRange``.

    Reading forward is fast. Going back opens the file again, because seeking is not exact in every video. A truncated
    file has its stated length, and its missing frames are broken.

    Attributes:
        path: the file.
        rate: frames per second, as the file states; None if it does not.
        truncation: a description of a truncated file; else empty.
        available: number of decodable frames.

    Raises:
        DataError: the file is missing, is an image, or can't be decoded as a video.
    """

    named_by_time = False
    rate_tolerance = VIDEO_RATE_TOLERANCE

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._range = ThermalRange()
        self._capture = self._open()
        self._next = 0
        self._milliseconds = 0.0
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate: float | None = float(rate) if np.isfinite(rate) and rate > 0 else None
        self.available, self._length, self.truncation = self._count()

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
        """Return the time of each decodable frame ``(T,)``, seconds; the first call reads the whole file."""
        return self._times

    def time(self, index: int) -> float | None:
        """Return the time of frame ``index`` (from 0), which was read last, in seconds; None if unknown."""
        if index == self._next - 1 and (index == 0 or self._milliseconds > 0):
            return self._milliseconds / 1000
        return None if self.rate is None else index / self.rate

    def frame(self, index: int) -> Image:
        """Return frame ``index`` (from 0) as ``(H, W, 3)`` RGB.

        Raises:
            IndexError: the index is out of range.
            DataError: the frame can't be decoded; later frames can be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: frame {index} of {len(self)}")
        if index >= self.available:
            raise DataError(self.truncation)
        if index < self._next:
            self._capture, self._next = self._open(), 0
        while self._next < index:
            self._skip()
        pixels = self._decode()
        if pixels is None:
            raise DataError(f"{self.path}: cannot decode frame {index + 1} of {len(self)}")
        check_pixels(pixels, f"{self.path}: frame {index + 1}")
        return to_rgb(pixels, self._range.at(index, pixels) if is_thermal(pixels) else None)

    def _skip(self) -> None:
        """Skip a frame; it is decoded only if the thermal range depends on it."""
        if self._next in self._range.unmeasured(self._next):
            self._decode()
        else:
            self._capture.grab()
            self._next += 1

    def _decode(self) -> Pixels | None:
        success, pixels = self._capture.read()
        self._milliseconds = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) if success else 0.0
        self._range.measure(self._next, pixels if success else None)
        self._next += 1
        return pixels if success else None

    def _open(self) -> cv2.VideoCapture:
        if not self.path.exists():
            raise DataError(f"{self.path}: expected a folder of images or a video file, there is none")
        check_regular_file(self.path)
        if self.path.suffix.lower() in SUFFIXES:
            raise DataError(f"{self.path}: expected a folder of images or a video file, got one image")
        # Silences the decoder, because the error names the file.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        capture = cv2.VideoCapture(to_opencv_path(self.path))
        cv2.utils.logging.setLogLevel(level)
        if not capture.isOpened():
            raise DataError(f"{self.path}: cannot open the video")
        if _is_deep_gray(capture):
            capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)  # otherwise the decoder returns 8 bits
        return capture

    def _count(self) -> tuple[int, int, str]:
        """Return the number of decodable frames, the stated number, and a description of a truncation.

        The stated number is right if its last frame exists; otherwise frames are counted.
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
        rate = self.rate
        truncation = "" if rate is None else describe_truncation(self.path, stated, counted, last, rate)
        return counted, max(stated, counted) if truncation else counted, truncation


def _is_deep_gray(capture: cv2.VideoCapture) -> bool:
    """Return whether a video is gray of more than 8 bits; FFmpeg tags this pixel format as ``Y1``, 0, bits."""
    tag = int(capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)).to_bytes(4, "little", signed=False)
    return tag[:3] == b"Y1\0" and 8 < tag[3] <= 16
