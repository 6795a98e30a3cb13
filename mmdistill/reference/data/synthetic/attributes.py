"""The attribute flags of a synthetic video, from its schedule and its boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.data.boxes import centres
from mmdistill.reference.data.sequence import Boxes
from mmdistill.reference.data.synthetic.events import Events

OCCLUDED = 0.25
"""The share of the target's box that an occluder's box covers at least."""

SEARCH_AREA = 5.0
"""A look-alike counts where its centre is in a search region of this many times the target's size."""

FAST = 0.2
"""Fast is more than this share of the target's size (the root of its area) in one frame."""


def attribute_flags(
    events: Events, target: Boxes, distractors: Sequence[Boxes], occluders: Sequence[Boxes]
) -> dict[str, NDArray[np.bool_]]:
    """Return for each attribute a flag per frame ``(T,)``.

    Args:
        events: the schedule.
        target: boxes ``(T, 4)``.
        distractors: boxes ``(T, 4)`` of each look-alike.
        occluders: boxes ``(T, 4)`` of everything that passes in front.
    """
    size = np.sqrt(target[:, 2:].prod(axis=1))
    occluded, similar = np.zeros(len(target), bool), np.zeros(len(target), bool)
    for boxes in occluders:
        occluded |= covered(target, boxes) >= OCCLUDED
    for boxes in distractors:
        away = np.abs(centres(boxes) - centres(target)).max(axis=1)
        similar |= away <= SEARCH_AREA / 2 * size
    step = np.linalg.norm(np.diff(centres(target), axis=0, prepend=centres(target)[:1]), axis=1)
    ratio = size / size[0]
    return {
        "low_illumination": events.darkness > 0.5,
        "thermal_crossover": events.crossover > 0.5,
        "occlusion": occluded,
        "similar_appearance": similar,
        "scale_variation": np.maximum(ratio, 1 / ratio) > np.sqrt(2),
        "fast_motion": step > FAST * size,
    }


def covered(boxes: Boxes, covers: Boxes) -> NDArray[np.float64]:
    """Return the share ``(T,)`` of each of ``boxes`` ``(T, 4)`` that lies in its cover ``(T, 4)``."""
    low = np.maximum(boxes[:, :2], covers[:, :2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], covers[:, :2] + covers[:, 2:])
    return np.asarray(np.maximum(high - low, 0).prod(axis=1) / boxes[:, 2:].prod(axis=1))
