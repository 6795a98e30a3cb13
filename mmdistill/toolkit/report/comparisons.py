"""Comparison of two trackers: by sequence, and where they diverge within a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.evaluation.metrics import best_overlaps
from mmdistill.toolkit.report.contents import Contents

MIN_LEAD = 0.25
"""Mean lead in IoU by which one tracker is ahead after a divergence."""

MAX_PAIRS = 15
"""Pairs of up to six trackers. Of more trackers, only the pairs with the first one are compared."""

MIN_SR_DIFFERENCE = 0.05
"""Difference of SR, percent, from which on one tracker is ahead on a sequence."""


class Divergence(NamedTuple):
    """Frames, from 0, in which two trackers differ.

    Attributes:
        first_ahead: frame of the first tracker's largest lead in IoU.
        second_ahead: frame of the second tracker's largest lead in IoU.
        frame: frame at which the trackers diverge, or None. Over any range that starts here, one tracker leads by
            ``MIN_LEAD`` or more on average; over any range that ends before it, by no more.
    """

    first_ahead: int
    second_ahead: int
    frame: int | None


def find_divergence(first: Array, second: Array) -> Divergence | None:
    """Return where the IoUs ``(T,)`` of two trackers differ, or None if no frame has a label."""
    lead = first - second
    if np.isnan(lead).all():
        return None
    frame = _diverging_frame(lead if np.nansum(lead) >= 0 else -lead)
    return Divergence(int(np.nanargmax(lead)), int(np.nanargmin(lead)), frame)


def _diverging_frame(lead: Array) -> int | None:
    """Return the start of the range to the end with the largest sum of lead above ``MIN_LEAD``, or None if empty."""
    excess = np.nan_to_num(lead - MIN_LEAD, nan=0.0)
    remaining = np.append(np.cumsum(excess[::-1])[::-1], 0.0)
    best = len(lead) - int(remaining[::-1].argmax())  # the last of equal ones, which has a label
    return None if best == len(lead) else best


@dataclass(frozen=True, eq=False)
class SequencePair:
    """Two trackers on one sequence.

    Attributes:
        index: the sequence's index.
        sequence: the sequence's name.
        SR: success rates of the first and the second tracker, percent.
        overlaps: IoUs ``(T,)`` of the first and the second tracker; None without ground truth.
        divergence: where the trackers differ; None without ground truth.
    """

    index: int
    sequence: str
    SR: tuple[float, float]
    overlaps: tuple[Array, Array] | None = None
    divergence: Divergence | None = None

    @property
    def difference(self) -> float:
        """The first tracker's SR minus the second's."""
        return self.SR[0] - self.SR[1]


@dataclass(frozen=True, eq=False)
class TrackerPair:
    """Two trackers on all sequences.

    Attributes:
        indices: the trackers' indices.
        names: the trackers' names.
        sequences: the sequences in descending order of their difference.
    """

    indices: tuple[int, int]
    names: tuple[str, str]
    sequences: tuple[SequencePair, ...]

    @property
    def differences(self) -> Array:
        """The differences of SR, in the order of ``sequences``."""
        return np.array([each.difference for each in self.sequences])

    def largest_leads(self, count: int) -> tuple[Sequence[SequencePair], Sequence[SequencePair]]:
        """Return up to ``count`` sequences with the largest leads of the first tracker, and of the second."""
        ahead = [each for each in self.sequences if each.difference >= MIN_SR_DIFFERENCE]
        behind = [each for each in reversed(self.sequences) if each.difference <= -MIN_SR_DIFFERENCE]
        return ahead[:count], behind[:count]


def pair_trackers(contents: Contents) -> list[TrackerPair]:
    """Return all pairs of trackers, or the pairs with the first tracker if there are more than ``MAX_PAIRS``."""
    indices = list(combinations(range(len(contents.trackers)), 2))
    if len(indices) > MAX_PAIRS:
        indices = [(first, second) for first, second in indices if first == 0]
    overlaps = [
        {name: best_overlaps(tracker.boxes[name], truth.boxes) for name, truth in contents.ground_truth.items()}
        for tracker in contents.trackers
    ]
    return [_pair(contents, first, second, overlaps) for first, second in indices]


def _pair(contents: Contents, first: int, second: int, overlaps: list[dict[str, Array]]) -> TrackerPair:
    trackers = contents.trackers[first], contents.trackers[second]
    sequences = []
    for index, name in enumerate(contents.sequences):
        rates = trackers[0].scores.sequences[name].SR, trackers[1].scores.sequences[name].SR
        if name in contents.ground_truth:
            both = overlaps[first][name], overlaps[second][name]
            sequences.append(SequencePair(index, name, rates, both, find_divergence(*both)))
        else:
            sequences.append(SequencePair(index, name, rates))
    sequences.sort(key=lambda each: -each.difference)
    return TrackerPair((first, second), (trackers[0].name, trackers[1].name), tuple(sequences))
