"""What goes wrong in a video, and when: darkness, thermal crossover, something passing in front.

The attribute flags of a synthetic video, from its schedule and its boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.boxes import centers
from mmdistill.toolkit.sequence import Boxes

Array = NDArray[np.float64]

CLEAR_START = 8
"""Frames at the start in which nothing happens, so that a tracker sees what it is to follow."""

RAMP = 4
"""Frames in which an event comes and goes."""


@dataclass(frozen=True)
class Passage:
    """Something passes in front of the target.

    Args:
        middle: the frame in which it is right before the target.
        duration: for about how many frames it touches the target.
        direction: the angle at which it goes by, radians.
    """

    middle: float
    duration: float
    direction: float


@dataclass(frozen=True)
class Events:
    """The schedule of a video of ``T`` frames.

    Args:
        darkness: how little light there is, ``(T,)``, 0 to 1.
        crossover: how close the target's temperature is to that of its surroundings, ``(T,)``, 0 to 1.
        passages: occlusions.
    """

    darkness: Array
    crossover: Array
    passages: tuple[Passage, ...]


def schedule(
    generator: np.random.Generator,
    length: int,
    *,
    stretch: int,
    darkness: float,
    crossover: float,
    occlusion: float,
) -> Events:
    """Return a random schedule in which no two events overlap.

    The video is divided into stretches, and in each there is at most one event; one that is too short for half a
    stretch has none.

    Args:
        generator: the source of everything random.
        length: frames of the video.
        stretch: about how many frames a stretch has.
        darkness: the probability of darkness in a stretch.
        crossover: that of thermal crossover.
        occlusion: that of an occlusion; the three add up to 1 at most.
    """
    time = np.arange(length)
    dark, crossed = np.zeros(length), np.zeros(length)
    passages = []
    stretches = max(round((length - CLEAR_START) / stretch), 0)
    edges = np.linspace(CLEAR_START, length, stretches + 1)
    for start, end in pairwise(edges):
        kind = generator.uniform()
        duration = generator.uniform(0.5, 0.95) * (end - start)
        first = generator.uniform(start, end - duration)
        if kind < darkness:
            dark += _envelope(time, first, first + duration)
        elif kind < darkness + crossover:
            crossed += _envelope(time, first, first + duration)
        elif kind < darkness + crossover + occlusion:
            passages.append(Passage(first + duration / 2, duration / 2, generator.uniform(0, 2 * np.pi)))
    return Events(dark, crossed, tuple(passages))


def _envelope(time: NDArray[np.int_], start: float, end: float) -> Array:
    """Return ``(T,)``: 0 outside, 1 inside, with smooth ramps within."""
    inside = np.clip(np.minimum(time - start, end - time) / RAMP, 0, 1)
    return np.asarray(inside**2 * (3 - 2 * inside))


OCCLUDED = 0.25
"""The share of the target's box that an occluder's box covers at least."""

SEARCH_AREA = 5.0
"""A look-alike counts where its center is in a search region of this many times the target's size."""

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
        away = np.abs(centers(boxes) - centers(target)).max(axis=1)
        similar |= away <= SEARCH_AREA / 2 * size
    step = np.linalg.norm(np.diff(centers(target), axis=0, prepend=centers(target)[:1]), axis=1)
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
