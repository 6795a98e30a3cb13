"""Pairs of trackers: how they compare on each sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mmdistill.reference.data.boxes import Array
from mmdistill.reference.report.contents import Contents
from mmdistill.reference.report.partings import Parting, overlaps, part

MOST_PAIRS = 15
"""All pairs of six trackers; of more, only those with the first tracker are compared."""

ALIKE = 0.05
"""Sequences whose SR differs by less, in percent, count for neither tracker: they are printed alike."""


@dataclass(frozen=True, eq=False)
class SequencePair:
    """Two trackers on one sequence.

    Attributes:
        number: of the sequence, from 0.
        sequence: its name.
        SR: of the first and the second.
        overlaps: each frame's IoU ``(T,)`` of the first and the second; None without ground truth.
        parting: where they differ; None without ground truth.
    """

    number: int
    sequence: str
    SR: tuple[float, float]
    overlaps: tuple[Array, Array] | None = None
    parting: Parting | None = None

    @property
    def difference(self) -> float:
        """The first's SR less the second's."""
        return self.SR[0] - self.SR[1]


@dataclass(frozen=True, eq=False)
class TrackerPair:
    """Two trackers on all sequences.

    Attributes:
        places: the trackers' numbers.
        names: the trackers' names.
        sequences: those on which the first is further ahead come first.
    """

    places: tuple[int, int]
    names: tuple[str, str]
    sequences: tuple[SequencePair, ...]

    @property
    def differences(self) -> Array:
        """The differences of SR, as ``sequences`` are ordered."""
        return np.array([each.difference for each in self.sequences])

    def furthest(self, count: int) -> tuple[Sequence[SequencePair], Sequence[SequencePair]]:
        """Return the sequences on which the first, and on which the second, is furthest ahead; so many at most."""
        ahead = [each for each in self.sequences if each.difference >= ALIKE]
        behind = [each for each in reversed(self.sequences) if each.difference <= -ALIKE]
        return ahead[:count], behind[:count]


def tracker_pairs(contents: Contents) -> list[TrackerPair]:
    """Return all pairs, or those with the first tracker where all would be too many."""
    places = list(combinations(range(len(contents.trackers)), 2))
    if len(places) > MOST_PAIRS:
        places = [(first, second) for first, second in places if first == 0]
    found = [_overlaps(contents, place) for place in range(len(contents.trackers))]
    return [_pair(contents, first, second, found) for first, second in places]


def _overlaps(contents: Contents, place: int) -> dict[str, Array]:
    boxes = contents.trackers[place].boxes
    return {name: overlaps(boxes[name], truth.boxes) for name, truth in contents.truths.items()}


def _pair(contents: Contents, first: int, second: int, found: list[dict[str, Array]]) -> TrackerPair:
    one, other = contents.trackers[first], contents.trackers[second]
    sequences = []
    for number, name in enumerate(contents.sequences):
        rates = one.scores.sequences[name].SR, other.scores.sequences[name].SR
        if name in contents.truths:
            both = found[first][name], found[second][name]
            sequences.append(SequencePair(number, name, rates, both, part(*both)))
        else:
            sequences.append(SequencePair(number, name, rates))
    sequences.sort(key=lambda each: -each.difference)
    return TrackerPair((first, second), (one.name, other.name), tuple(sequences))
