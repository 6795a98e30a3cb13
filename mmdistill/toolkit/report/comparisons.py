"""Pairs of trackers: how they compare on each sequence.

Where two trackers differ within a sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from mmdistill.toolkit.boxes import Array, intersection_over_union
from mmdistill.toolkit.report.contents import Contents
from mmdistill.toolkit.sequence import Boxes

LEAD = 0.25
"""The lead in IoU, on average, that counts as being apart."""


class Divergence(NamedTuple):
    """Frames, from 0, in which a first and a second tracker differ most.

    Attributes:
        first_ahead: where the first tracker's IoU is furthest above the second's.
        second_ahead: the other way round.
        for_good: where they part; None where they never do. From here on, over any stretch that starts here, one of
            them leads by ``LEAD`` on average; over any stretch that ends here it leads by no more.
    """

    first_ahead: int
    second_ahead: int
    for_good: int | None


def overlaps(boxes: Boxes, truths: Sequence[Boxes]) -> Array:
    """Return each frame's IoU ``(T,)``, the best with any of the ground truths.

    Zero where there is no usable prediction, NaN where there is no label: a box of NaN or without area.

    Args:
        boxes: ``(T, 4)``, pixels.
        truths: each ``(T, 4)``.
    """
    valid = [np.isfinite(truth).all(axis=1) & (truth[:, 2:] > 0).all(axis=1) for truth in truths]
    found = [np.nan_to_num(intersection_over_union(boxes, truth)) for truth in truths]
    labeled = [np.where(usable, iou, np.nan) for usable, iou in zip(valid, found, strict=True)]
    return np.asarray(np.fmax.reduce(labeled))


def part(first: Array, second: Array) -> Divergence | None:
    """Return where two trackers' IoUs ``(T,)`` differ; None where no frame has a label."""
    lead = first - second
    if np.isnan(lead).all():
        return None
    return Divergence(
        int(np.nanargmax(lead)), int(np.nanargmin(lead)), _for_good(lead if np.nansum(lead) >= 0 else -lead)
    )


def _for_good(lead: Array) -> int | None:
    # What is left to win from each frame on, above the lead asked for; the end, where nothing is left, counts too.
    excess = np.nan_to_num(lead - LEAD, nan=0.0)
    left = np.append(np.cumsum(excess[::-1])[::-1], 0.0)
    best = len(lead) - int(left[::-1].argmax())  # the last of equals: a frame with a label
    return None if best == len(lead) else best


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
    parting: Divergence | None = None

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
