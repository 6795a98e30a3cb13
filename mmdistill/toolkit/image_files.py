"""Lists the image files of a folder in natural order, and defines the files and folders that searches ignore.

Natural order sorts names by their text and the numbers in it: ``2`` before ``10``.

A number with a point between digits is ambiguous. In ``1628087349.05`` the digits after the point are a fraction, so
the order is ``.05``, ``.1``, ``.15``. In ``scene_1.10`` they are a whole number, so it is ``1.2``, ``1.9``, ``1.10``.
``reads_as_decimals`` decides from all names of a folder.
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

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Suffixes of image files, in lower case."""

SYSTEM_NAMES = frozenset(
    {"__macosx", "__pycache__", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found"}
    | {"desktop.ini", "ehthumbs.db", "system volume information", "thumbs.db"}
)
"""Files and folders that operating systems, network drives and notebooks create, in lower case."""

IGNORED = "hidden and system files and folders, ignored"
"""The data issue that lists ignored files and folders."""

MIN_EVENLY_SPACED = 4
"""Smallest number of names whose numbers can be evenly spaced."""

MAX_STEP_RATIO = Decimal("1.1")
"""Largest ratio of the largest to the smallest step between evenly spaced numbers."""

_DECIMAL = r"\d+[.,]\d+(?![.,]?\d)"
"""A number with a point or a decimal comma; of ``1.2.3`` the last two numbers."""

_WHOLE_NUMBERS = re.compile(r"(\d+)")
_NUMBERS = re.compile(rf"({_DECIMAL}|\d+)")
_FRACTIONS = re.compile(r"\d+[.,](\d+)(?![.,]?\d)")
_ONLY_NUMBER = re.compile(r"\d+([.,]\d+)?")
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")


def is_ignored(path: str | Path) -> bool:
    """Return whether searches for sequences, pairs and images ignore a file or folder.

    These are hidden entries and those of operating systems (``__MACOSX``, ``@eaDir``). Only the last part of the path
    counts.
    """
    name = Path(path).name
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def natural_sort_key(name: str, *, decimals: bool = False) -> Key:
    """Return the sort key of natural order.

    Args:
        name: name of a file or folder.
        decimals: read digits after a point as a fraction.
    """
    parts = split_numbers(name, decimals=decimals)
    return [_number_key(part) if index % 2 else part for index, part in enumerate(parts)], name


def split_numbers(name: str, *, decimals: bool = False) -> list[str]:
    """Return the texts and numbers of a name in turn; the first and the last are texts."""
    return (_NUMBERS if decimals else _WHOLE_NUMBERS).split(name)


def sort_naturally(
    items: Iterable[Item], name: Callable[[Item], str], where: str, warn: Callable[[str], object] = logger.warning
) -> list[Item]:
    """Return items in the natural order of their names; warn if the reading of points changes the order.

    Args:
        items: files, folders or their names.
        name: returns the name of an item.
        where: the folder, for the warning.
        warn: receives the warning.
    """
    by_whole = sorted(items, key=lambda item: natural_sort_key(name(item)))
    names = [name(item) for item in by_whole]
    if not any(map(_FRACTIONS.search, names)):
        return by_whole
    by_value = sorted(by_whole, key=lambda item: natural_sort_key(name(item), decimals=True))
    values = [name(item) for item in by_value]
    if names == values:
        return by_whole
    decimals = reads_as_decimals(names)
    chosen, rejected = (values, names) if decimals else (names, values)
    index = {each: number for number, each in enumerate(rejected)}
    first, second = next(pair for pair in pairwise(chosen) if index[pair[0]] > index[pair[1]])
    reading = "are fractions" if decimals else "are whole numbers"
    warn(f"{where}: digits after a point in names {reading}: {first} comes before {second}")
    return by_value if decimals else by_whole


def reads_as_decimals(names: Sequence[str]) -> bool:
    """Return whether the digits after a point in names are fractions, such as those of times.

    They are no whole numbers if some of one length begin with 0 and others are shorter: ``.05`` beside ``.5``. They are
    no fractions if some end with 0 and others differ in length: ``.10`` beside ``.9``, because writers of times keep
    all zeros at the end or none. If neither or both are possible, they are fractions if all names consist of a number
    only, or if their values are evenly spaced.

    Args:
        names: the files or folders of one folder.
    """
    stems = [PurePath(name).stem if not _ONLY_NUMBER.fullmatch(name) else name for name in names]
    fractions_of_stems = [fractions for stem in stems if (fractions := _FRACTIONS.findall(stem))]
    if not fractions_of_stems:
        return False
    whole, decimal = True, True
    for column in range(min(map(len, fractions_of_stems))):
        digits = [fractions[column] for fractions in fractions_of_stems]
        shortest, longest = min(map(len, digits)), max(map(len, digits))
        whole &= all(len(each) == shortest or each[0] != "0" for each in digits)
        decimal &= shortest == longest or all(each[-1] != "0" or not each.strip("0") for each in digits)
    if whole != decimal:
        return decimal
    return all(map(_ONLY_NUMBER.fullmatch, stems)) or _are_evenly_spaced(stems)


def _are_evenly_spaced(stems: Sequence[str]) -> bool:
    """Return whether names differ in one number only, whose values are evenly spaced, like the times of a video."""
    parts = [split_numbers(stem, decimals=True) for stem in stems]
    if len(stems) < MIN_EVENLY_SPACED or len({tuple(part[::2]) for part in parts}) > 1:
        return False
    different = [column for column in zip(*(part[1::2] for part in parts), strict=True) if len(set(column)) > 1]
    if len(different) != 1:
        return False
    values = sorted(Decimal(number.replace(",", ".")) for number in different[0])
    steps = [after - before for before, after in pairwise(values)]
    return max(steps) <= min(steps) * MAX_STEP_RATIO


def _number_key(text: str) -> tuple[int, str]:
    """Return the sort key of a number: its whole part and the digits of its fraction."""
    whole, _, fraction = text.replace(",", ".").partition(".")
    return int(whole), "".join(str(int(digit)) for digit in fraction)


class ImageFiles(Sequence[Path]):
    """The files of one folder; only names are kept, because datasets have a million images.

    Args:
        folder: the folder.
        names: names of the files, in frame order.
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
        """Return the path of a file, or the files of a slice."""
        if isinstance(index, slice):
            return ImageFiles(self.folder, self.names[index])
        return self.folder / self.names[index]


def list_images(folder: str | Path, warn: Callable[[str], object] = logger.warning) -> ImageFiles:
    """Return the images of a folder in natural order (``2.jpg`` before ``10.jpg``), without hidden files.

    Args:
        folder: the folder.
        warn: receives a warning if the order is ambiguous; see ``sort_naturally``.

    Raises:
        DataError: the folder is missing or has no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of images, there is none")
    names = [name for name in os.listdir(folder) if _is_image(name)]  # noqa: PTH208 - ten times faster than paths
    if not names:
        raise DataError(f"{folder}: expected images ({' '.join(sorted(SUFFIXES))}), the folder has none")
    if _differ_in_digits_only(names):  # alphabetical order is natural order, and ten times faster
        return ImageFiles(folder, sorted(names))
    return ImageFiles(folder, sort_naturally(names, str, str(folder), warn))


def _is_image(name: str) -> bool:
    return name[0] != "." and name[name.rfind(".") :].lower() in SUFFIXES


def _differ_in_digits_only(names: Sequence[str]) -> bool:
    """Return whether all names have equal length and differ in ASCII digits only."""
    joined = "\0".join((*names, "")).encode("utf-8", "surrogateescape").translate(_DIGITS_TO_ZERO)
    return joined == joined[: joined.index(b"\0") + 1] * len(names)
