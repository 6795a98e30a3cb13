"""Schedules darkness, thermal crossover and occlusions of a synthetic video, and derives attribute flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.boxes import Array, centers
from mmdistill.toolkit.sequence import Boxes

NUM_CLEAR_FRAMES = 8
"""Frames at the start without events, so that a tracker first sees the target."""

RAMP_FRAMES = 4
"""Frames in which an event begins and ends."""

MIN_OCCLUDED_SHARE = 0.25
"""Minimum share of the target's box that an occluder covers in a frame flagged as occluded."""

SEARCH_AREA_SCALE = 5.0
"""Side of the search area in target sizes; distractors with their center inside count."""

MIN_FAST_STEP = 0.2
"""Minimum step per frame of fast motion, as a share of the target's size (the root of its area)."""


@dataclass(frozen=True)
class Occlusion:
    """An object passes in front of the target.

    Args:
        middle: the frame in which it covers the target's center.
        duration: number of frames in which it touches the target, about.
        direction: angle of its motion, radians.
    """

    middle: float
    duration: float
    direction: float


@dataclass(frozen=True)
class EventTimeline:
    """The events of a video of ``T`` frames.

    Args:
        darkness: ``(T,)``, 0 (full light) to 1.
        crossover: ``(T,)``, 0 to 1; at 1 the target has the temperature of its surroundings.
        occlusions: the occlusions.
    """

    darkness: Array
    crossover: Array
    occlusions: tuple[Occlusion, ...]


def random_timeline(
    generator: np.random.Generator,
    length: int,
    *,
    stretch: int,
    darkness: float,
    crossover: float,
    occlusion: float,
) -> EventTimeline:
    """Return a random timeline without overlapping events.

    The video is divided into stretches with at most one event each. A remainder shorter than half a stretch has none.

    Args:
        generator: the source of randomness.
        length: frames of the video.
        stretch: frames of a stretch, about.
        darkness: probability of darkness in a stretch.
        crossover: probability of thermal crossover in a stretch.
        occlusion: probability of an occlusion in a stretch; the three sum to 1 at most.
    """
    time = np.arange(length)
    dark, crossed = np.zeros(length), np.zeros(length)
    occlusions = []
    stretches = max(round((length - NUM_CLEAR_FRAMES) / stretch), 0)
    edges = np.linspace(NUM_CLEAR_FRAMES, length, stretches + 1)
    for start, end in pairwise(edges):
        kind = generator.uniform()
        duration = generator.uniform(0.5, 0.95) * (end - start)
        first = generator.uniform(start, end - duration)
        if kind < darkness:
            dark += _envelope(time, first, first + duration)
        elif kind < darkness + crossover:
            crossed += _envelope(time, first, first + duration)
        elif kind < darkness + crossover + occlusion:
            occlusions.append(Occlusion(first + duration / 2, duration / 2, generator.uniform(0, 2 * np.pi)))
    return EventTimeline(dark, crossed, tuple(occlusions))


def _envelope(time: NDArray[np.int_], start: float, end: float) -> Array:
    """Return ``(T,)``: 0 outside, 1 inside, with smooth ramps within."""
    inside = np.clip(np.minimum(time - start, end - time) / RAMP_FRAMES, 0, 1)
    return np.asarray(inside**2 * (3 - 2 * inside))


def attribute_flags(
    timeline: EventTimeline, target: Boxes, distractors: Sequence[Boxes], occluders: Sequence[Boxes]
) -> dict[str, NDArray[np.bool_]]:
    """Return the flags ``(T,)`` of each attribute.

    Args:
        timeline: the events.
        target: boxes ``(T, 4)``.
        distractors: boxes ``(T, 4)`` of each distractor.
        occluders: boxes ``(T, 4)`` of each occluder.
    """
    size = np.sqrt(target[:, 2:].prod(axis=1))
    occluded, similar = np.zeros(len(target), bool), np.zeros(len(target), bool)
    for boxes in occluders:
        occluded |= covered_share(target, boxes) >= MIN_OCCLUDED_SHARE
    for boxes in distractors:
        distance = np.abs(centers(boxes) - centers(target)).max(axis=1)
        similar |= distance <= SEARCH_AREA_SCALE / 2 * size
    step = np.linalg.norm(np.diff(centers(target), axis=0, prepend=centers(target)[:1]), axis=1)
    ratio = size / size[0]
    return {
        "low_illumination": timeline.darkness > 0.5,
        "thermal_crossover": timeline.crossover > 0.5,
        "occlusion": occluded,
        "similar_appearance": similar,
        "scale_variation": np.maximum(ratio, 1 / ratio) > np.sqrt(2),
        "fast_motion": step > MIN_FAST_STEP * size,
    }


def covered_share(boxes: Boxes, covers: Boxes) -> Array:
    """Return the share ``(T,)`` of each box ``(T, 4)`` inside its cover ``(T, 4)``."""
    low = np.maximum(boxes[:, :2], covers[:, :2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], covers[:, :2] + covers[:, 2:])
    return np.asarray(np.maximum(high - low, 0).prod(axis=1) / boxes[:, 2:].prod(axis=1))
