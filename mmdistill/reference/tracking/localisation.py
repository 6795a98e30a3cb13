"""What a score map says of where the target is, and whether to believe it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.data.boxes import Array
from mmdistill.reference.tracking.settings import LocalisationSettings

Flag = Literal["normal", "hard_negative", "uncertain", "not_found"]
"""``normal``: one clear maximum. ``hard_negative``: the target beside something like it, which is worth learning from.
``uncertain``: two places that could both be the target. ``not_found``: no place could."""

ScoreMap = NDArray[np.floating[Any]]
"""Scores ``(H', W')`` of a search area."""


class Localisation(NamedTuple):
    """Where the target is.

    Attributes:
        displacement: x, y from the score map's centre, cells.
        score: the score there.
        flag: whether to believe it.
    """

    displacement: Array
    score: float
    flag: Flag


def localise(score_map: ScoreMap, last: Array, target_size: Array, settings: LocalisationSettings) -> Localisation:
    """Find the target in a score map.

    Args:
        score_map: ``(H', W')``.
        last: x, y of where the target was, from the score map's centre, cells.
        target_size: width and height, cells.
        settings: thresholds.
    """
    place, score = _maximum(score_map)
    first = place - _centre(score_map)
    # Not a number is not above the threshold either.
    if not score >= settings.not_found:
        return Localisation(first, score, "not_found")

    rest = without_neighbourhood(score_map, place, settings.neighbourhood * target_size)
    place, second_score = _maximum(rest)
    second = place - _centre(score_map)
    if second_score > settings.rival * score:
        reach = settings.reach * np.sqrt(score_map.size) / 2
        near, second_near = (bool(np.linalg.norm(way - last) < reach) for way in (first, second))
        if near == second_near:
            return Localisation(first, score, "uncertain")
        if near:
            return Localisation(first, score, "hard_negative")
        return Localisation(second, second_score, "hard_negative")
    if second_score > settings.distractor * score and second_score > settings.not_found:
        return Localisation(first, score, "hard_negative")
    return Localisation(first, score, "normal")


def without_neighbourhood(score_map: ScoreMap, place: Array, size: Array) -> ScoreMap:
    """Return the score map with zeros around a place.

    Args:
        score_map: ``(H', W')``.
        place: x, y, cells.
        size: width and height of the neighbourhood, cells; its bounds are rounded, and belong to it.
    """
    low = np.maximum(np.rint(place - size / 2), 0).astype(int)
    high = np.rint(place + size / 2).astype(int) + 1
    rest: ScoreMap = score_map.copy()
    rest[low[1] : high[1], low[0] : high[0]] = 0
    return rest


def _maximum(score_map: ScoreMap) -> tuple[Array, float]:
    """Return x, y of the maximum, cells, and its value."""
    row, column = np.unravel_index(int(score_map.argmax()), score_map.shape)
    return np.array([column, row], dtype=np.float64), float(score_map[row, column])


def _centre(score_map: ScoreMap) -> Array:
    """Return x, y of the map's centre, cells."""
    height, width = score_map.shape
    return np.array([width - 1, height - 1]) / 2
