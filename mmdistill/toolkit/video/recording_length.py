"""Detects truncated recordings: compares the length that a container states with the frames that it has."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

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


def describe_truncation(path: Path | None, where: str, stated: int, counted: int, last: float, rate: float) -> str:
    """Return a description of a recording that ends before its stated length; empty if it is complete.

    Args:
        path: the file; None if it is not on this computer.
        where: the recording's name.
        stated: stated number of frames.
        counted: number of decodable frames.
        last: time of the last decodable frame from the start, seconds.
        rate: stated frames per second.
    """
    if counted >= stated:
        return ""
    container = ContainerInfo() if path is None else read_container(path)
    if container.complete or (container.may_count_one_more and counted == stated - 1):
        return ""
    if container.has_count:
        return f"{where}: states {stated} frames, {counted} can be decoded"
    duration = stated / rate if container.duration is None else container.duration
    end = last + 1 / rate
    if container.truncated or duration - end > max(MAX_MISSING_SECONDS, MAX_MISSING_SHARE * duration, 2 / rate):
        return f"{where}: states {duration:.2f} seconds, about {stated} frames, {counted} can be decoded ({end:.2f} s)"
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
    """Return whether a track's edit list drops pictures at its start or end.

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
    handler = movie.index(b"hdlr", track)
    if movie[handler + 12 : handler + 16] != b"vide":  # sound always drops its first samples
        return False
    units, length = _scale_and_duration(movie, track)
    # With reordered frames, times begin at the delay of the first one, which the list subtracts.
    begins_late = max(starts) > _first_delay(movie, track)
    return bool(begins_late or sum(durations) / scale < (length - max(starts)) / units - 1e-2)


def _first_delay(movie: bytes, track: int) -> int:
    """Return the delay of the first frame of a track from decoding to presentation, in the track's units."""
    end = movie.find(b"trak", track)
    delays = movie.find(b"ctts", track, end if end > 0 else len(movie))
    if delays < 0 or struct.unpack_from(">I", movie, delays + 8)[0] == 0:
        return 0
    return int(struct.unpack_from(">i", movie, delays + 16)[0])


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
