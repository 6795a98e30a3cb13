"""When frames were taken, as far as recordings say, and which frames of two recordings belong together by it.

Which image of one folder belongs to which of another.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.image_files import ImageFiles, reads_as_decimals, split_numbers
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.video.reading import InputWarnings, OnBroken, Source

PairBy = Literal["auto", "index", "time"]
"""What makes an RGB and a TIR frame a pair: their index, or their times. auto: index, unless the rates differ."""

Times = NDArray[np.float64]
"""``(T,)``, seconds, ascending."""

VIDEO_RATE_TOLERANCE = 0.01
"""Relative difference of two rates that is none, where both are stated: 29.97 and 30 are one rate."""

NAMED_RATE_TOLERANCE = 0.1
"""The same where a rate is computed from file names, which are often rounded to milliseconds."""

_TIME = re.compile(r"(\D*)(\d+(?:[.,]\d+)?)(\D*)")
_UNITS = {10: 1.0, 13: 1e-3, 16: 1e-6, 19: 1e-9}
"""What a whole number of so many digits counts since 1970, seconds."""


def name_times(stems: Sequence[str]) -> Times | None:
    """Return the times that files are named by; None if the names are no times.

    A time is a number with a point (seconds) or a whole number of 10, 13, 16 or 19 digits (seconds, milliseconds,
    microseconds, nanoseconds since 1970). A text before and after it must be the same in all names.

    Args:
        stems: names without suffix, in order.
    """
    if not stems or not _is_time(stems[0]):
        return None
    found = [_TIME.fullmatch(stem) for stem in stems]
    matches = [each for each in found if each is not None]
    if len(matches) < len(stems) or len({(each[1], each[3]) for each in matches}) > 1:
        return None
    numbers = [each[2].replace(",", ".") for each in matches]
    decimals = any("." in number for number in numbers)
    unit = 1.0 if decimals else _UNITS.get(len(numbers[0]), 0.0)
    # Less the first before they become floats, which can't hold nanoseconds since 1970.
    first = int(numbers[0].partition(".")[0])
    times = np.array([_since(number, first) for number in numbers]) * unit + first * unit
    return times if unit and (np.diff(times) > 0).all() else None


def rate_of(times: Times | None) -> float | None:
    """Return frames per second, whatever frames are lost; None where there are no times or a single one."""
    return 1 / _period(times) if times is not None and len(times) > 1 else None


def check_rates(sources: Pair[Source], where: Pair[str]) -> None:
    """Refuse recordings of different rates, which pairing by index would pair wrongly.

    Raises:
        DataError: both state a rate, and they differ.
    """
    rates = [source.rate for source in sources]
    if rates[0] is None or rates[1] is None:
        return
    tolerance = max(source.rate_tolerance for source in sources)
    if abs(rates[0] / rates[1] - 1) > tolerance:
        raise DataError(
            f"RGB has {rates[0]:.4g} frames per second ({len(sources.rgb)} frames), TIR has {rates[1]:.4g} "
            f"({len(sources.tir)} frames): {where.rgb}, {where.tir}; --pair-by time pairs them by their times, "
            "--pair-by index by their numbers"
        )


def warn_of_times(sources: Pair[Source], where: Pair[str], warnings: InputWarnings) -> None:
    """Warn if frames that are paired by index were taken at different times, by the names of their files."""
    rgb, tir = (source.times() if source.named_by_time else None for source in sources)
    if rgb is None or tir is None:
        return
    count = min(len(rgb), len(tir))
    apart = np.abs(rgb[:count] - tir[:count])
    limit = max(_period(rgb), _period(tir)) / 2
    if limit and (apart > limit).any():
        warnings(
            f"{where.rgb} and {where.tir} are named by times, but paired by index: {int((apart > limit).sum())} of "
            f"{count} pairs are over half a frame apart, up to {apart.max():.3f} s; --pair-by time pairs them by time"
        )


def match_times(rgb: Times, tir: Times) -> list[int | None]:
    """Return for each RGB frame the TIR frame nearest in time; None if none is near.

    Near is within half the time between two frames of the slower recording.

    Args:
        rgb: the RGB frames' times.
        tir: the TIR frames'.
    """
    after = np.clip(np.searchsorted(tir, rgb), 1, max(len(tir) - 1, 1))
    candidates = np.stack([after - 1, np.minimum(after, len(tir) - 1)])
    apart = np.abs(tir[candidates] - rgb)
    nearest = apart.argmin(axis=0)
    chosen, distance = (np.take_along_axis(each, nearest[None], axis=0)[0] for each in (candidates, apart))
    limit = max(_period(rgb), _period(tir)) / 2 * (1 + 1e-6) + 1e-6
    return [int(index) if near else None for index, near in zip(chosen, distance <= limit, strict=True)]


class Matched:
    """TIR frames in the order of the RGB frames that they belong to.

    Args:
        source: the TIR frames.
        frames: for each RGB frame the TIR frame's index, or None.
    """

    rate: float | None = None
    shortfall = ""
    named_by_time = False
    rate_tolerance = VIDEO_RATE_TOLERANCE

    def __init__(self, source: Source, frames: Sequence[int | None]) -> None:
        self._source, self._frames = source, frames
        self.available = len(frames)
        self._last: tuple[int, Image | DataError | None] | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def times(self) -> Times | None:
        """Return None: they are no longer of interest."""
        return None

    def frame(self, index: int) -> Image | None:
        """Return the TIR frame that belongs to RGB frame ``index``, or None; each is read once for all in a row."""
        frame = self._frames[index]
        if frame is None:
            return None
        if self._last is None or self._last[0] != frame:
            self._last = frame, self._read(frame)
        result = self._last[1]
        if isinstance(result, DataError):
            raise result
        return result

    def _read(self, frame: int) -> Image | DataError | None:
        try:
            return self._source.frame(frame)
        except DataError as error:
            return error


def pair_by_time(
    sources: Pair[Source], where: Pair[str], warnings: InputWarnings, on_broken: OnBroken
) -> Pair[Source | None]:
    """Return RGB as it is, and the TIR frame nearest in time to each RGB frame.

    There is one frame for each RGB frame, without TIR where none is near; TIR frames may be used several times or not
    at all. How many are paired is a warning, because it says what the frames' numbers mean.

    Raises:
        DataError: a recording has no times, nothing is near, or TIR is cut off and that is to be the end.
    """
    rgb, tir = (_times(source, place) for source, place in zip(sources, where, strict=True))
    if sources.tir.shortfall:
        if on_broken == "stop":
            raise DataError(sources.tir.shortfall)
        warnings(sources.tir.shortfall)
    frames = match_times(rgb, tir)
    used = {frame for frame in frames if frame is not None}
    if not used:
        spans = [f"{side[0]:.3f} to {side[-1]:.3f} s in {place}" for side, place in zip((rgb, tir), where, strict=True)]
        raise DataError(f"--pair-by time: no RGB frame has a TIR frame near in time: {' and '.join(spans)}")
    lacking = frames.count(None)
    # RGB's frames that can't be decoded are the frames' own affair.
    frames += [None] * (len(sources.rgb) - len(frames))
    warnings(
        f"paired by time: {len(rgb) - lacking} of {len(rgb)} RGB frames have a TIR frame, {lacking} have none near; "
        f"{len(used)} of {len(tir)} TIR frames are used"
    )
    return Pair(sources.rgb, Matched(sources.tir, frames))


def _times(source: Source, where: str) -> Times:
    times = source.times()
    if times is None:
        raise DataError(f"--pair-by time: {where} has no times: expected a video, or images named by times")
    return times


def _is_time(stem: str) -> bool:
    found = _TIME.fullmatch(stem)
    return found is not None and (
        "." in found[2] or "," in found[2] or (len(found[2]) in _UNITS and found[2][0] == "1")
    )


def _since(number: str, first: int) -> float:
    whole, _, fraction = number.partition(".")
    return int(whole) - first + (float(f"0.{fraction}") if fraction else 0.0)


def _period(times: Times) -> float:
    """Return the usual time between two frames; 0 for a single one."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.0


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
