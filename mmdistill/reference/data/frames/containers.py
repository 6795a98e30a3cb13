"""What a video file's container states of its length, to tell a recording that is cut off from one that is whole."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

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
