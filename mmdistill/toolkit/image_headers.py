"""Reads image headers: format, size, completeness and number of images.

The header is read before decoding, so that truncated or oversized files are refused with a clear error.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.flir_jpeg import SEGMENT_START, has_temperatures
from mmdistill.toolkit.tiff_pages import TIFF_STARTS, first_directory, read_pages

_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # of a JPEG's frame header
_INVALID_MARKERS = frozenset({*range(0x02, 0xC0), 0xC8, 0xD8, *range(0xF0, 0xFE)})
_PROGRESSIVE_MARKERS = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SCAN, _END, _APPLICATION = 0xDA, 0xD9, 0xE1

_PNM_HEADER = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")
_PNM_MAXIMUM = re.compile(rb"(?:\s|#[^\n]*\n)*(\d+)\s")
_GIF_FRAME = b"\x21\xf9\x04"


class ImageHeader(NamedTuple):
    """The header of an image file.

    Attributes:
        format: the format's name.
        width: pixels.
        height: pixels.
        complete: whether the image's end is present.
        end: offset of the image's end in the file, bytes; 0 if unknown. Later bytes are not part of the image.
        num_images: number of images: pages of a TIFF, frames of an animation.
        white_is_zero: whether a TIFF stores bright pixels as small values.
        directory: offset of the first page's directory in a TIFF that begins with a thumbnail, bytes; else 0.
        problem: why OpenCV would decode wrong pixels; else empty.
        radiometric: whether a JPEG has the temperatures of a FLIR camera.
        by_opencv: whether OpenCV knows the compression of a TIFF.
    """

    format: str
    width: int
    height: int
    complete: bool = True
    end: int = 0
    num_images: int = 1
    white_is_zero: bool = False
    directory: int = 0
    problem: str = ""
    radiometric: bool = False
    by_opencv: bool = True


def read_header(data: bytes) -> ImageHeader | None:
    """Return the header of an image file; None if the format is unknown or the header is damaged.

    Args:
        data: the file's content.
    """
    for start, name, read in _READERS:
        if data.startswith(start):
            try:
                return read(data)
            except (struct.error, IndexError):  # the header is truncated
                return ImageHeader(name, 0, 0, complete=False)
            except ValueError:
                return None
    return None


def _read_png(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from(">II", data, 16)
    position, images, complete = 8, 1, False
    while position + 12 <= len(data) and not complete:
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"acTL":
            images = struct.unpack_from(">I", data, position + 8)[0]
        position += 12 + length
        complete = kind == b"IEND" and position <= len(data)
    return ImageHeader("PNG", width, height, complete, position, images)


def _read_jpeg(data: bytes) -> ImageHeader:
    """Walk the segments to the image's end; thumbnails are inside a segment."""
    width = height = 0
    position, scans, progressive, radiometric = 2, 0, None, False
    markers = _jpeg_markers(data)
    while (index := bisect_left(markers, position)) < len(markers):
        position = markers[index] + 2
        marker = data[position - 1]
        if marker == _END:
            complete = scans > 0 and (progressive is None or progressive.complete)
            return ImageHeader("JPEG", width, height, complete, position, radiometric=radiometric)
        if marker in _INVALID_MARKERS:
            break  # a second image or other data: the end of the first is missing
        length = struct.unpack_from(">H", data, position)[0]
        if marker == _APPLICATION and data.startswith(SEGMENT_START, position + 2):
            radiometric |= has_temperatures(data[position + 2 : position + length])
        if marker in _SIZE_MARKERS:
            height, width = struct.unpack_from(">HH", data, position + 3)
            progressive = _ProgressiveScans(data, position) if marker in _PROGRESSIVE_MARKERS else None
        if marker == _SCAN:
            scans += 1
            if progressive is not None:
                progressive.add(data, position)
        position += length
    return ImageHeader("JPEG", width, height, complete=False)


class _ProgressiveScans:
    """The coefficients of a progressive JPEG whose last bit is still missing.

    A truncated file with an appended end marker lacks its last scans.
    """

    def __init__(self, data: bytes, frame: int) -> None:
        count = data[frame + 7]
        self._missing = {data[frame + 8 + 3 * component]: set(range(64)) for component in range(count)}

    def add(self, data: bytes, scan: int) -> None:
        """Register a scan by the offset of its header."""
        count = data[scan + 2]
        first, last, bits = data[scan + 3 + 2 * count : scan + 6 + 2 * count]
        if bits & 0xF == 0:
            for component in range(count):
                self._missing.get(data[scan + 3 + 2 * component], set()).difference_update(range(first, last + 1))

    @property
    def complete(self) -> bool:
        """Whether no coefficient is missing."""
        return not any(self._missing.values())


def _jpeg_markers(data: bytes) -> NDArray[np.int64]:
    """Return the offsets of bytes FF that may begin a segment or end the image.

    Such a byte is not followed by 0, FF or a restart marker.
    """
    values = np.frombuffer(data, np.uint8)
    starts = np.flatnonzero(values[:-1] == 0xFF)
    follows = values[starts + 1]
    return np.asarray(starts[(follows > 1) & (follows & 0xF8 != 0xD0) & (follows != 0xFF)], dtype=np.int64)


def _read_bmp(data: bytes) -> ImageHeader:
    start, size = struct.unpack_from("<II", data, 10)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression, stored = 0, 0
    else:
        width, height, _, bits, compression, stored = struct.unpack_from("<iiHHII", data, 18)
        width, height = abs(width), abs(height)
    if compression in (0, 3):
        stored = (width * bits + 31) // 32 * 4 * height
    return ImageHeader("BMP", width, height, start + stored <= len(data))


def _read_webp(data: bytes) -> ImageHeader:
    if data[8:12] != b"WEBP":
        raise ValueError("not WebP")
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    kind, images = data[12:16], 1
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        if data[20] & 2:
            images = max(_riff_chunks(data[:end]).count(b"ANMF"), 1)
    elif kind == b"VP8L":
        packed = struct.unpack_from("<I", data, 21)[0]
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    return ImageHeader("WebP", width, height, end <= len(data), end, images)


def _riff_chunks(data: bytes) -> list[bytes]:
    kinds, position = [], 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        kinds.append(kind)
        position += 8 + length + length % 2
    return kinds


def _read_pnm(data: bytes) -> ImageHeader:
    kind = data[1] - ord("0")
    match = _PNM_HEADER.match(data)
    if match is None:
        raise ValueError("not PNM")
    width, height = int(match[1]), int(match[2])
    if kind < 4:  # numbers as text
        return ImageHeader("PNM", width, height)
    start, row = match.end(), (width + 7) // 8
    if kind > 4:
        maximum = _PNM_MAXIMUM.match(data, start)
        if maximum is None:
            raise ValueError("not PNM")
        start, row = maximum.end(), width * (1 if kind == 5 else 3) * (2 if int(maximum[1]) > 255 else 1)
    return ImageHeader("PNM", width, height, start + row * height <= len(data))


def _read_gif(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from("<HH", data, 6)
    return ImageHeader("GIF", width, height, num_images=max(data.count(_GIF_FRAME), 1))


def _read_jpeg2000(data: bytes) -> ImageHeader:
    at = data.index(b"\xff\x51")  # the code stream's own size segment
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 6)
    return ImageHeader("JPEG 2000", right - left, bottom - top)


def _read_avif(data: bytes) -> ImageHeader:
    sizes = [struct.unpack_from(">II", data, match.end() + 4) for match in re.finditer(rb"ispe", data[:65536])]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return ImageHeader("AVIF", width, height)


def _read_tiff(data: bytes) -> ImageHeader:
    pages, truncated = read_pages(data)
    if not pages:
        if truncated:
            return ImageHeader("TIFF", 0, 0, complete=False)
        raise ValueError("a TIFF file without a page")
    first = pages[0]
    complete = not truncated and all(page.end <= len(data) for page in pages)
    directory = 0 if first.directory == first_directory(data) else first.directory
    return ImageHeader(
        "TIFF",
        first.width,
        first.height,
        complete,
        num_images=len(pages),
        white_is_zero=first.white_is_zero,
        directory=directory,
        problem=first.problem,
        by_opencv=first.by_opencv,
    )


_READERS: tuple[tuple[bytes | tuple[bytes, ...], str, Callable[[bytes], ImageHeader]], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG", _read_png),
    (b"\xff\xd8", "JPEG", _read_jpeg),
    (b"BM", "BMP", _read_bmp),
    (b"RIFF", "WebP", _read_webp),
    (TIFF_STARTS, "TIFF", _read_tiff),
    (b"GIF8", "GIF", _read_gif),
    (tuple(b"P%d" % kind for kind in range(1, 7)), "PNM", _read_pnm),
    ((b"\x00\x00\x00\x0cjP", b"\xff\x4f\xff\x51"), "JPEG 2000", _read_jpeg2000),
    (tuple(b"\x00\x00\x00" + bytes([length]) + b"ftypavi" for length in range(16, 64, 4)), "AVIF", _read_avif),
)
