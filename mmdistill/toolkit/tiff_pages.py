"""The pages of a TIFF file: where each is described, its size and polarity, and one page alone as a file."""

from __future__ import annotations

import struct
from mmap import mmap
from typing import Any, NamedTuple

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF files begin, in either byte order; the last two are BigTIFF."""

MAX_PAGES = 1_000_000

_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 254, 255, 256, 257, 258, 262, 339
_SAMPLES, _PLANES = 277, 284
_OFFSETS, _COUNTS = (273, 324), (279, 325)  # of strips, of tiles


class TiffPage(NamedTuple):
    """A page.

    Attributes:
        directory: where it is described, bytes from the file's start.
        width: pixels.
        height: pixels.
        white_is_zero: whether bright is stored as small values.
        end: where the last of its pixels ends, bytes from the file's start.
        problem: why its pixels would be decoded wrongly; else empty.
    """

    directory: int
    width: int
    height: int
    white_is_zero: bool
    end: int
    problem: str = ""


def read_pages(data: Any) -> tuple[list[TiffPage], bool]:
    """Return the pages of a TIFF file, without thumbnails and masks, and whether the file ends before the last of them.

    Args:
        data: the file, as bytes or as a map of it.

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
    """Return where a TIFF's first page, thumbnail or mask is described, bytes from the file's start."""
    return _Layout(data).first


def select_page(data: bytearray | mmap, directory: int) -> None:
    """Make a page the first of its file, in place: decoders read that one.

    Args:
        data: the file, writable.
        directory: where the page is described.
    """
    layout = _Layout(data)
    struct.pack_into(layout.order + layout.pointer, data, layout.pointer_at, directory)


class _Layout:
    """How a file writes numbers: its byte order, and TIFF or BigTIFF."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.order = "<" if data[:2] == b"II" else ">"
        self._big = struct.unpack_from(self.order + "H", data, 2)[0] == 43
        self.pointer, self.pointer_at = ("Q", 8) if self._big else ("I", 4)
        self._entry = 20 if self._big else 12
        self.first = self._number(self.pointer, self.pointer_at)

    def page(self, position: int) -> tuple[TiffPage | None, int]:
        """Return the page described at a position, or None for a thumbnail or mask, and where the next one is."""
        entries = self._number("Q" if self._big else "H", position)
        start = position + (8 if self._big else 2)
        if start + entries * self._entry > len(self._data):
            raise struct.error("a page is described beyond the file's end")
        fields = {self._number("H", start + each * self._entry): start + each * self._entry for each in range(entries)}
        following = self._number(self.pointer, start + entries * self._entry)
        if self._value(fields, _SUBFILE) & 0b101 or self._value(fields, _OLD_SUBFILE) == 2:
            return None, following
        for tag in (_BITS, _SAMPLE_FORMAT):  # where they lie elsewhere, they must be there
            self._values(fields, tag)
        ends = [0]
        for offsets, counts in zip(_OFFSETS, _COUNTS, strict=True):
            stored = zip(self._values(fields, offsets), self._values(fields, counts), strict=False)
            ends += [offset + count for offset, count in stored]
        white_is_zero = _PHOTOMETRIC in fields and self._value(fields, _PHOTOMETRIC) == 0
        width, height = self._value(fields, _WIDTH), self._value(fields, _HEIGHT)
        return TiffPage(position, width, height, white_is_zero, max(ends), self._problem(fields)), following

    def _problem(self, fields: dict[int, int]) -> str:
        """Return why the decoder, which does not say so, would give other values than the page has."""
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
        at = fields[tag] + (12 if self._big else 8)
        if count * struct.calcsize("=" + kind) > struct.calcsize("=" + self.pointer):
            at = self._number(self.pointer, at)
        if at + count * struct.calcsize("=" + kind) > len(self._data):
            raise struct.error("a value lies beyond the file's end")
        return struct.unpack_from(f"{self.order}{count}{kind}", self._data, at)

    def _number(self, kind: str, at: int) -> int:
        if at > len(self._data):
            raise struct.error("a number lies beyond the file's end")
        return int(struct.unpack_from(self.order + kind, self._data, at)[0])
