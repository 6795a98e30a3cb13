"""Where two trackers differ within a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmdistill.reference.data.boxes import Array, intersection_over_union
from mmdistill.reference.data.sequence import Boxes

LEAD = 0.25
"""The lead in IoU, on average, that counts as being apart."""


class Parting(NamedTuple):
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
    labelled = [np.where(usable, iou, np.nan) for usable, iou in zip(valid, found, strict=True)]
    return np.asarray(np.fmax.reduce(labelled))


def part(first: Array, second: Array) -> Parting | None:
    """Return where two trackers' IoUs ``(T,)`` differ; None where no frame has a label."""
    lead = first - second
    if np.isnan(lead).all():
        return None
    return Parting(int(np.nanargmax(lead)), int(np.nanargmin(lead)), _for_good(lead if np.nansum(lead) >= 0 else -lead))


def _for_good(lead: Array) -> int | None:
    # What is left to win from each frame on, above the lead asked for; the end, where nothing is left, counts too.
    excess = np.nan_to_num(lead - LEAD, nan=0.0)
    left = np.append(np.cumsum(excess[::-1])[::-1], 0.0)
    best = len(lead) - int(left[::-1].argmax())  # the last of equals: a frame with a label
    return None if best == len(lead) else best
