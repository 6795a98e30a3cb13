"""A folder's images in order. Data sets have a million of them, so names are kept, and paths made as needed.

Names in natural order: by their text and the numbers in it, ``2`` before ``10``; times by their value.

A number with a point between digits has two readings. In ``1628087349.05`` the digits after the point are a fraction:
``.05``, ``.1``, ``.15`` is the order. In ``scene_1.10`` they are a number of their own: ``1.2``, ``1.9``, ``1.10``. One
name does not tell, so all names of a folder decide together; see ``reads_as_decimals``.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path, PurePath
from typing import TypeVar, overload

from mmdistill.toolkit.data_issues import DataError

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Key = tuple[list[str | tuple[int, str]], str]

MIN_TIMES = 4
"""How many names it takes to see that their numbers are evenly spaced."""

STEP_TOLERANCE = Decimal("1.1")
"""The largest of evenly spaced steps, of the smallest."""

_DECIMAL = r"\d+[.,]\d+(?![.,]?\d)"
"""A number with a point; of ``1.2.3`` the last two numbers. A decimal comma counts as a point."""

_WHOLE_NUMBERS = re.compile(r"(\d+)")
_NUMBERS = re.compile(rf"({_DECIMAL}|\d+)")
_FRACTIONS = re.compile(r"\d+[.,](\d+)(?![.,]?\d)")
_ONLY_NUMBER = re.compile(r"\d+([.,]\d+)?")


def natural_order(name: str, *, decimals: bool = False) -> Key:
    """Return the key that sorts names by their text and the numbers in it.

    Args:
        name: a file's or folder's.
        decimals: whether digits after a point are a fraction.
    """
    parts = split_numbers(name, decimals=decimals)
    return [_number(part) if index % 2 else part for index, part in enumerate(parts)], name


def split_numbers(name: str, *, decimals: bool = False) -> list[str]:
    """Return a name's texts and numbers in turn: text, number, text and so on, beginning and ending with a text."""
    return (_NUMBERS if decimals else _WHOLE_NUMBERS).split(name)


def sort_naturally(
    items: Iterable[Item], name: Callable[[Item], str], where: str, say: Callable[[str], object] = logger.warning
) -> list[Item]:
    """Return items in the natural order of their names.

    Where the names have two readings that differ in order, the order taken is said.

    Args:
        items: files, folders or their names.
        name: returns an item's name.
        where: where they are found, for the message.
        say: takes the message.
    """
    by_whole = sorted(items, key=lambda item: natural_order(name(item)))
    names = [name(item) for item in by_whole]
    if not any(map(_FRACTIONS.search, names)):
        return by_whole
    by_value = sorted(by_whole, key=lambda item: natural_order(name(item), decimals=True))
    values = [name(item) for item in by_value]
    if names == values:
        return by_whole
    decimals = reads_as_decimals(names)
    chosen, other = (values, names) if decimals else (names, values)
    place = {each: index for index, each in enumerate(other)}
    first, second = next(pair for pair in pairwise(chosen) if place[pair[0]] > place[pair[1]])
    reading = "are fractions" if decimals else "are whole numbers"
    say(f"{where}: digits after a point in names {reading}: {first} comes before {second}")
    return by_value if decimals else by_whole


def reads_as_decimals(names: Sequence[str]) -> bool:
    """Return whether the digits after a point in names are fractions, as of times, or whole numbers.

    Digits can't be a whole number where some of a length begin with 0 and others are shorter: ``.05`` beside ``.5``.
    They can't be a fraction where they end with 0 and others have another length: ``.10`` beside ``.9``; whoever
    writes times of one length keeps all zeros, and whoever drops zeros drops all. Where both are possible, or neither,
    they are fractions if all names are numbers and nothing else, or if by their values they are evenly spaced.

    Args:
        names: a folder's files or folders.
    """
    stems = [PurePath(name).stem if not _ONLY_NUMBER.fullmatch(name) else name for name in names]
    found = [fractions for stem in stems if (fractions := _FRACTIONS.findall(stem))]
    if not found:
        return False
    whole, decimal = True, True
    for column in range(min(map(len, found))):
        digits = [fractions[column] for fractions in found]
        shortest, longest = min(map(len, digits)), max(map(len, digits))
        whole &= all(len(each) == shortest or each[0] != "0" for each in digits)
        decimal &= shortest == longest or all(each[-1] != "0" or not each.strip("0") for each in digits)
    if whole != decimal:
        return decimal
    return all(map(_ONLY_NUMBER.fullmatch, stems)) or _evenly_spaced(stems)


def _evenly_spaced(stems: Sequence[str]) -> bool:
    """Whether names that differ in one number alone, read with its fraction, are like the times of a video."""
    parts = [split_numbers(stem, decimals=True) for stem in stems]
    if len(stems) < MIN_TIMES or len({tuple(part[::2]) for part in parts}) > 1:
        return False
    different = [column for column in zip(*(part[1::2] for part in parts), strict=True) if len(set(column)) > 1]
    if len(different) != 1:
        return False
    values = sorted(Decimal(number.replace(",", ".")) for number in different[0])
    steps = [after - before for before, after in pairwise(values)]
    return max(steps) <= min(steps) * STEP_TOLERANCE


def _number(text: str) -> tuple[int, str]:
    """Return a number as what it is sorted by: its whole part and the digits of its fraction."""
    whole, _, fraction = text.replace(",", ".").partition(".")
    return int(whole), "".join(str(int(digit)) for digit in fraction)


SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

_SAME_DIGIT = bytes.maketrans(b"123456789", b"000000000")


class ImageFiles(Sequence[Path]):
    """Files of one folder.

    Args:
        folder: where they lie.
        names: their names, in the order of the frames.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, names

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> ImageFiles: ...
    def __getitem__(self, index: int | slice) -> Path | ImageFiles:
        """Return a file, or some of them."""
        if isinstance(index, slice):
            return ImageFiles(self.folder, self.names[index])
        return self.folder / self.names[index]


def list_images(folder: str | Path, say: Callable[[str], object] = logger.warning) -> ImageFiles:
    """Return a folder's images in natural order of their names (``2.jpg`` before ``10.jpg``); hidden files don't count.

    Args:
        folder: where they lie.
        say: takes a message about names whose order can be read in two ways; see ``sort_naturally``.

    Raises:
        DataError: the folder is missing or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of images, there is none")
    names = [name for name in os.listdir(folder) if _is_image(name)]  # noqa: PTH208 - names take a tenth of the time
    if not names:
        raise DataError(f"{folder}: expected images ({' '.join(sorted(SUFFIXES))}), the folder has none")
    # Sorting by text takes a tenth of the time, and mostly it is the same.
    return ImageFiles(folder, sorted(names) if _alike(names) else sort_naturally(names, str, str(folder), say))


def _is_image(name: str) -> bool:
    return name[0] != "." and name[name.rfind(".") :].lower() in SUFFIXES


def _alike(names: Sequence[str]) -> bool:
    """Whether names differ in digits alone, place by place, so that numbers are ordered as texts are."""
    joined = "\0".join((*names, "")).encode("utf-8", "surrogateescape").translate(_SAME_DIGIT)
    return joined == joined[: joined.index(b"\0") + 1] * len(names)
