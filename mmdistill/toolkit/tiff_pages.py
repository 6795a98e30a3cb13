"""Reads the page directories of TIFF files, and selects a page for decoding."""

from __future__ import annotations

import struct
from mmap import mmap
from typing import Any, NamedTuple

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first bytes of TIFF files, in both byte orders; the last two are BigTIFF."""

MAX_PAGES = 1_000_000

_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 254, 255, 256, 257, 258, 262, 339
_COMPRESSION, _SAMPLES, _PLANES = 259, 277, 284
_OFFSETS, _COUNTS = (273, 324), (279, 325)  # of strips, of tiles
_OPENCV_COMPRESSIONS = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946})  # none, fax, LZW, JPEG, deflate, PackBits


class TiffPage(NamedTuple):
    """A page of a TIFF file.

    Attributes:
        directory: offset of the page's directory in the file, bytes.
        width: pixels.
        height: pixels.
        white_is_zero: whether bright pixels are stored as small values.
        end: offset of the end of the page's pixels in the file, bytes.
        problem: why OpenCV would decode wrong pixels; else empty.
        by_opencv: whether OpenCV knows the compression. It returns black for some that it does not know.
    """

    directory: int
    width: int
    height: int
    white_is_zero: bool
    end: int
    problem: str = ""
    by_opencv: bool = True


def read_pages(data: Any) -> tuple[list[TiffPage], bool]:
    """Return the pages of a TIFF file, without thumbnails and masks, and whether the file is truncated.

    Args:
        data: the file's content, bytes or a memory map.

    Raises:
        struct.error: the file ends within its header.
    """
    layout = _Layout(data)
    pages: list[TiffPage] = []
    seen: set[int] = set()
    position = layout.first
    try:
        while position and position not in seen and len(seen) < MAX_PAGES:
            seen.add(position)
            page, position = layout.page(position)
            if page is not None:
                pages.append(page)
    except struct.error:
        return pages, True
    return pages, False


def first_directory(data: Any) -> int:
    """Return the offset of the first directory of a TIFF file, bytes: of a page, a thumbnail or a mask."""
    return _Layout(data).first


def select_page(data: bytearray | mmap, directory: int) -> None:
    """Make a page the first page of its file, in place, because decoders read the first page.

    Args:
        data: the file's content, writable.
        directory: offset of the page's directory, bytes.
    """
    layout = _Layout(data)
    struct.pack_into(layout.order + layout.pointer, data, layout.pointer_at, directory)


class _Layout:
    """The number layout of a TIFF file: byte order, and TIFF or BigTIFF."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.order = "<" if data[:2] == b"II" else ">"
        self._big = struct.unpack_from(self.order + "H", data, 2)[0] == 43
        self.pointer, self.pointer_at = ("Q", 8) if self._big else ("I", 4)
        self._entry = 20 if self._big else 12
        self.first = self._number(self.pointer, self.pointer_at)

    def page(self, position: int) -> tuple[TiffPage | None, int]:
        """Return the page whose directory is at an offset (None for a thumbnail or mask), and the next offset."""
        entries = self._number("Q" if self._big else "H", position)
        start = position + (8 if self._big else 2)
        if start + entries * self._entry > len(self._data):
            raise struct.error("a directory lies beyond the file's end")
        entry_offsets = range(start, start + entries * self._entry, self._entry)
        fields = {self._number("H", offset): offset for offset in entry_offsets}
        following = self._number(self.pointer, start + entries * self._entry)
        if self._value(fields, _SUBFILE) & 0b101 or self._value(fields, _OLD_SUBFILE) == 2:
            return None, following
        for tag in (_BITS, _SAMPLE_FORMAT):  # values stored outside the directory must exist
            self._values(fields, tag)
        ends = [0]
        for offsets, counts in zip(_OFFSETS, _COUNTS, strict=True):
            stored = zip(self._values(fields, offsets), self._values(fields, counts), strict=False)
            ends += [offset + count for offset, count in stored]
        white_is_zero = _PHOTOMETRIC in fields and self._value(fields, _PHOTOMETRIC) == 0
        width, height = self._value(fields, _WIDTH), self._value(fields, _HEIGHT)
        by_opencv = self._value(fields, _COMPRESSION) in _OPENCV_COMPRESSIONS
        page = TiffPage(position, width, height, white_is_zero, max(ends), self._problem(fields), by_opencv)
        return page, following

    def _problem(self, fields: dict[int, int]) -> str:
        """Return why OpenCV would silently decode wrong values; empty if it would not."""
        samples, bits = self._value(fields, _SAMPLES), max(self._values(fields, _BITS), default=1)
        if samples < 2 or bits <= 8:
            return ""
        if self._value(fields, _PLANES) == 2:
            return f"{samples} channels of {bits} bits that are stored one after the other; store them interleaved"
        return f"2 channels of {bits} bits, expected 1, 3 or 4" if samples == 2 else ""

    def _value(self, fields: dict[int, int], tag: int) -> int:
        values = self._values(fields, tag)
        return values[0] if values else 0

    def _values(self, fields: dict[int, int], tag: int) -> tuple[int, ...]:
        if tag not in fields:
            return ()
        kind = _TYPES.get(self._number("H", fields[tag] + 2))
        if kind is None:
            return ()
        count = self._number(self.pointer, fields[tag] + 4)
        offset = fields[tag] + (12 if self._big else 8)
        if count * struct.calcsize("=" + kind) > struct.calcsize("=" + self.pointer):
            offset = self._number(self.pointer, offset)
        if offset + count * struct.calcsize("=" + kind) > len(self._data):
            raise struct.error("a value lies beyond the file's end")
        return struct.unpack_from(f"{self.order}{count}{kind}", self._data, offset)

    def _number(self, kind: str, offset: int) -> int:
        if offset > len(self._data):
            raise struct.error("a number lies beyond the file's end")
        return int(struct.unpack_from(self.order + kind, self._data, offset)[0])
