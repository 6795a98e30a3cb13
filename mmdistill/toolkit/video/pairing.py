"""Pairs the frames of two recordings by their times, or the files of two folders by the numbers in their names."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.image_files import ImageFiles, reads_as_decimals, split_numbers
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.video.reading import FrameSource, InputWarnings, OnBroken, Times

logger = logging.getLogger(__name__)

PairBy = Literal["auto", "index", "time"]
"""How frames are paired: by index or by time. ``auto``: by index, an error if the rates differ."""

VIDEO_RATE_TOLERANCE = 0.01
"""Maximum relative difference of two equal rates, if both are stated: 29.97 and 30 are equal."""

NAMED_RATE_TOLERANCE = 0.1
"""The same for a rate computed from file names, which are often rounded to milliseconds."""

MAX_LISTED_NUMBERS = 5
"""Maximum number of lost files that a warning lists."""

_TIME = re.compile(r"(\D*)(\d+(?:[.,]\d+)?)(\D*)")
_UNITS = {10: 1.0, 13: 1e-3, 16: 1e-6, 19: 1e-9}
"""The unit of a whole number of this many digits, seconds since 1970."""


def times_from_names(stems: Sequence[str]) -> Times | None:
    """Return the times in file names; None if the names have no times.

    A time is a number with a decimal point (seconds), or a whole number of 10, 13, 16 or 19 digits (seconds,
    milliseconds, microseconds or nanoseconds since 1970). The text before and after it must be the same in all names.

    Args:
        stems: names without suffix, in order.
    """
    if not stems or not _is_time(stems[0]):
        return None
    matches = [match for stem in stems if (match := _TIME.fullmatch(stem)) is not None]
    if len(matches) < len(stems) or len({(match[1], match[3]) for match in matches}) > 1:
        return None
    numbers = [match[2].replace(",", ".") for match in matches]
    decimals = any("." in number for number in numbers)
    unit = 1.0 if decimals else _UNITS.get(len(numbers[0]), 0.0)
    # The first number is subtracted before the conversion to floats, which can't hold nanoseconds since 1970.
    first = int(numbers[0].partition(".")[0])
    times = np.array([_subtract(number, first) for number in numbers]) * unit + first * unit
    return times if unit and (np.diff(times) > 0).all() else None


def frame_rate(times: Times | None) -> float | None:
    """Return frames per second, robust to lost frames; None with fewer than two times."""
    return 1 / _frame_interval(times) if times is not None and len(times) > 1 else None


def check_rates(sources: Pair[FrameSource], where: Pair[str]) -> None:
    """Refuse recordings of different rates, because pairing by index would pair wrong frames.

    Args:
        sources: the recordings.
        where: names of both recordings, for errors.

    Raises:
        DataError: both recordings state a rate, and the rates differ.
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


def warn_of_time_differences(sources: Pair[FrameSource], where: Pair[str], warnings: InputWarnings) -> None:
    """Warn if frames paired by index differ in time, according to the names of their files."""
    rgb, tir = (source.times() if source.named_by_time else None for source in sources)
    if rgb is None or tir is None:
        return
    count = min(len(rgb), len(tir))
    differences = np.abs(rgb[:count] - tir[:count])
    limit = max(_frame_interval(rgb), _frame_interval(tir)) / 2
    if limit and (differences > limit).any():
        warnings(
            f"{where.rgb} and {where.tir} are named by times, but paired by index: {int((differences > limit).sum())} "
            f"of {count} pairs differ by over half a frame, up to {differences.max():.3f} s; --pair-by time pairs them "
            "by time"
        )


def match_times(rgb: Times, tir: Times) -> list[int | None]:
    """Return for each RGB frame the index of the nearest TIR frame in time; None if the difference is too large.

    The limit is half the frame interval of the slower recording.

    Args:
        rgb: times of the RGB frames.
        tir: times of the TIR frames.
    """
    after = np.clip(np.searchsorted(tir, rgb), 1, max(len(tir) - 1, 1))
    candidates = np.stack([after - 1, np.minimum(after, len(tir) - 1)])
    differences = np.abs(tir[candidates] - rgb)
    best = differences.argmin(axis=0)
    nearest, distance = (np.take_along_axis(each, best[None], axis=0)[0] for each in (candidates, differences))
    limit = max(_frame_interval(rgb), _frame_interval(tir)) / 2 * (1 + 1e-6) + 1e-6
    return [int(index) if near else None for index, near in zip(nearest, distance <= limit, strict=True)]


class TimeMatchedSource:
    """The TIR frames that match the RGB frames in time, one for each RGB frame.

    Args:
        source: the TIR frames.
        indices: for each RGB frame the index of the TIR frame, or None.
    """

    rate: float | None = None
    truncation = ""
    named_by_time = False
    rate_tolerance = VIDEO_RATE_TOLERANCE

    def __init__(self, source: FrameSource, indices: Sequence[int | None]) -> None:
        self._source, self._indices = source, indices
        self.available = len(indices)
        self._last: tuple[int, Image | DataError | None] | None = None

    def __len__(self) -> int:
        return len(self._indices)

    def times(self) -> Times | None:
        """Return None: the frames are paired already."""
        return None

    def time(self, index: int) -> None:
        """Return None: the time of a pair is that of RGB."""

    def frame(self, index: int) -> Image | None:
        """Return the TIR frame for RGB frame ``index``, or None; repeated frames are read once."""
        tir_index = self._indices[index]
        if tir_index is None:
            return None
        if self._last is None or self._last[0] != tir_index:
            self._last = tir_index, self._read(tir_index)
        result = self._last[1]
        if isinstance(result, DataError):
            raise result
        return result

    def _read(self, tir_index: int) -> Image | DataError | None:
        try:
            return self._source.frame(tir_index)
        except DataError as error:
            return error


def pair_by_time(
    sources: Pair[FrameSource], where: Pair[str], warnings: InputWarnings, on_broken: OnBroken, *, delay: float = 0.0
) -> Pair[FrameSource | None]:
    """Return the RGB frames unchanged, and for each one the nearest TIR frame in time.

    TIR is missing where no frame is near. A TIR frame may be used several times or not at all. A warning states how
    many frames are paired, because the frame numbers depend on it.

    Args:
        sources: the recordings.
        where: names of both recordings, for errors.
        warnings: receives the warning.
        on_broken: whether a truncated TIR is an error.
        delay: seconds by which TIR shows an event later than RGB; subtracted from TIR's times.

    Raises:
        DataError: a recording has no times, no frames are near in time, or TIR is truncated and ``on_broken`` is
            ``stop``.
    """
    rgb, tir = (_times(source, name) for source, name in zip(sources, where, strict=True))
    if sources.tir.truncation:
        if on_broken == "stop":
            raise DataError(sources.tir.truncation)
        warnings(sources.tir.truncation)
    tir = tir - delay
    indices = match_times(rgb, tir)
    used = {index for index in indices if index is not None}
    if not used:
        named = zip((rgb, tir), where, strict=True)
        spans = [f"{times[0]:.3f} to {times[-1]:.3f} s in {name}" for times, name in named]
        raise DataError(f"--pair-by time: no RGB frame has a TIR frame near in time: {' and '.join(spans)}")
    unpaired = indices.count(None)
    # Missing RGB frames of a truncated file; their error is raised when they are read.
    indices += [None] * (len(sources.rgb) - len(indices))
    warnings(
        f"paired by time: {len(rgb) - unpaired} of {len(rgb)} RGB frames have a TIR frame, {unpaired} have none near; "
        f"{len(used)} of {len(tir)} TIR frames are used" + (f"; delay of TIR {delay:+.3f} s" if delay else "")
    )
    return Pair(sources.rgb, TimeMatchedSource(sources.tir, indices))


def _times(source: FrameSource, where: str) -> Times:
    times = source.times()
    if times is None:
        raise DataError(f"--pair-by time: {where} has no times: expected a video, or images named by times")
    return times


def _is_time(stem: str) -> bool:
    match = _TIME.fullmatch(stem)
    return match is not None and (
        "." in match[2] or "," in match[2] or (len(match[2]) in _UNITS and match[2][0] == "1")
    )


def _subtract(number: str, first: int) -> float:
    whole, _, fraction = number.partition(".")
    return int(whole) - first + (float(f"0.{fraction}") if fraction else 0.0)


def _frame_interval(times: Times) -> float:
    """Return the median time between two frames; 0 for a single frame."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.0


def pair_files(
    rgb: Sequence[Path], tir: Sequence[Path], warn: Callable[[str], object] = logger.warning
) -> Pair[Sequence[Path | None]]:
    """Pair the images of two folders by their order, or by the numbers in their names if files are lost.

    The default is by order, because many datasets number their modalities differently. After a lost file only the
    numbers keep later frames aligned. Numbers are used if the names of each folder differ in one number only, both
    folders begin with the same number, and they share at least half of the numbers of the smaller folder. Two folders
    of equal size with constant steps, such as 0, 1, 2 and 0, 2, 4, have lost nothing.

    Args:
        rgb: images of one folder, in natural order.
        tir: images of the other folder, in natural order.
        warn: receives a warning about lost files.

    Returns:
        The frames of each modality, None for a lost file. Lengths differ if the folders end differently.
    """
    rgb_names, tir_names = _names(rgb), _names(tir)
    if list(map(_numbers, rgb_names)) == list(map(_numbers, tir_names)):
        return Pair(rgb, tir)
    decimals = any(map(reads_as_decimals, (rgb_names, tir_names)))
    rgb_numbers, tir_numbers = _by_number(rgb, decimals), _by_number(tir, decimals)
    if rgb_numbers is None or tir_numbers is None or not _lost_files(rgb_numbers, tir_numbers):
        return Pair(rgb, tir)
    numbers = sorted(rgb_numbers.keys() | tir_numbers.keys())
    return Pair(
        _fill_gaps(rgb_numbers, numbers, tir[0].parent, warn), _fill_gaps(tir_numbers, numbers, rgb[0].parent, warn)
    )


def _names(files: Sequence[Path]) -> Sequence[str]:
    return files.names if isinstance(files, ImageFiles) else [path.name for path in files]


def _numbers(name: str) -> list[str]:
    """Return the numbers in a file's name."""
    return split_numbers(name)[1::2]


def _lost_files(first: dict[Decimal, Path], second: dict[Decimal, Path]) -> bool:
    """Return whether two folders have one numbering, with files lost."""
    shared = first.keys() & second.keys()
    if len(first) == len(second) and _has_constant_step(first) and _has_constant_step(second):
        return False
    same_start = min(first) == min(second)
    return same_start and first.keys() != second.keys() and 2 * len(shared) >= min(len(first), len(second))


def _has_constant_step(files: dict[Decimal, Path]) -> bool:
    numbers = sorted(files)
    return len({after - before for before, after in pairwise(numbers)}) == 1


def _fill_gaps(
    files: dict[Decimal, Path], numbers: Sequence[Decimal], other_folder: Path, warn: Callable[[str], object]
) -> list[Path | None]:
    """Return the files in the order of all numbers up to their own last one, None for lost files; warn of those."""
    own = [number for number in numbers if number <= max(files)]
    lost = [str(number) for number in own if number not in files]
    if lost:
        listed = ", ".join(lost[:MAX_LISTED_NUMBERS]) + (", ..." if len(lost) > MAX_LISTED_NUMBERS else "")
        folder = next(iter(files.values())).parent
        rest = f"that {other_folder} has; the two are paired by the numbers in their names"
        warn(f"{folder}: {len(lost)} lost (number {listed}) {rest}")
    return [files.get(number) for number in own]


def _by_number(files: Sequence[Path], decimals: bool) -> dict[Decimal, Path] | None:
    """Return files by the one number that differs between their names; None if not exactly one does."""
    parts = [split_numbers(path.stem, decimals=decimals) for path in files]
    if len({tuple(part[::2]) for part in parts}) > 1:
        return None
    texts = zip(*(part[1::2] for part in parts), strict=True)
    columns = [[Decimal(digits.replace(",", ".")) for digits in column] for column in texts]
    different = [column for column in columns if len(set(column)) > 1]
    if len(different) != 1 or len(set(different[0])) < len(files):
        return None
    return dict(zip(different[0], files, strict=True))
