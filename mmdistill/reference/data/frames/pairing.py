"""Which image of one folder belongs to which of another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from mmdistill.pair import Pair
from mmdistill.reference.data.image_files import ImageFiles
from mmdistill.reference.data.natural_order import reads_as_decimals, split_numbers

logger = logging.getLogger(__name__)

SHOWN = 5
"""How many missing numbers a message lists."""


def pair_files(
    rgb: Sequence[Path], tir: Sequence[Path], say: Callable[[str], object] = logger.warning
) -> Pair[Sequence[Path | None]]:
    """Pair the images of two folders, both in natural order: by order, or by the numbers in their names.

    By order is the rule, since many data sets number their modalities differently. By number is right where a file of
    one folder is lost: the frames after it must stay aligned. So the numbers count if the names of each folder differ
    in one number only, both begin with the same one, and the folders share at least half of the numbers of the smaller.
    Two folders of as many files, one numbered 0, 1, 2 ... and one 0, 2, 4 ..., lost nothing. What was lost is logged
    once.

    Args:
        rgb: the images of one folder.
        tir: those of the other.
        say: what a message about lost files is given to.

    Returns:
        For each modality its frames, None for a frame without an image; of unequal length where the folders end
        differently.
    """
    rgb_names, tir_names = _names(rgb), _names(tir)
    if list(map(_digits, rgb_names)) == list(map(_digits, tir_names)):
        return Pair(rgb, tir)
    decimals = any(map(reads_as_decimals, (rgb_names, tir_names)))
    rgb_numbers, tir_numbers = _by_number(rgb, decimals), _by_number(tir, decimals)
    if rgb_numbers is None or tir_numbers is None or not _lossy(rgb_numbers, tir_numbers):
        return Pair(rgb, tir)
    numbers = sorted(rgb_numbers.keys() | tir_numbers.keys())
    return Pair(_filled(rgb_numbers, numbers, tir[0].parent, say), _filled(tir_numbers, numbers, rgb[0].parent, say))


def _names(files: Sequence[Path]) -> Sequence[str]:
    return files.names if isinstance(files, ImageFiles) else [path.name for path in files]


def _digits(name: str) -> list[str]:
    """Return the numbers in a file's name; where two folders have the same, nothing is lost."""
    return split_numbers(name)[1::2]


def _lossy(first: dict[Decimal, Path], second: dict[Decimal, Path]) -> bool:
    """Whether two folders share one numbering of which files are lost."""
    shared = first.keys() & second.keys()
    if len(first) == len(second) and _evenly_numbered(first) and _evenly_numbered(second):
        return False
    same_start = min(first) == min(second)
    return same_start and first.keys() != second.keys() and 2 * len(shared) >= min(len(first), len(second))


def _evenly_numbered(files: dict[Decimal, Path]) -> bool:
    numbers = sorted(files)
    return len({after - before for before, after in pairwise(numbers)}) == 1


def _filled(
    files: dict[Decimal, Path], numbers: Sequence[Decimal], partner: Path, say: Callable[[str], object]
) -> list[Path | None]:
    """Return the files in the order of all numbers, up to their own last; say which are lost."""
    own = [number for number in numbers if number <= max(files)]
    lost = [str(number) for number in own if number not in files]
    if lost:
        shown = ", ".join(lost[:SHOWN]) + (", ..." if len(lost) > SHOWN else "")
        folder = next(iter(files.values())).parent
        rest = f"that {partner} has; the two are paired by the numbers in their names"
        say(f"{folder}: {len(lost)} lost (number {shown}) {rest}")
    return [files.get(number) for number in own]


def _by_number(files: Sequence[Path], decimals: bool) -> dict[Decimal, Path] | None:
    """Return files by the one number in which their names differ, or None if there is no such number."""
    parts = [split_numbers(path.stem, decimals=decimals) for path in files]
    if len({tuple(part[::2]) for part in parts}) > 1:
        return None
    texts = zip(*(part[1::2] for part in parts), strict=True)
    texts = zip(*(part[1::2] for part in parts), strict=True)
    columns = [[Decimal(digits.replace(",", ".")) for digits in column] for column in texts]
    different = [column for column in columns if len(set(column)) > 1]
    if len(different) != 1 or len(set(different[0])) < len(files):
        return None
    return dict(zip(different[0], files, strict=True))
