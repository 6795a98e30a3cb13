"""Boxes ``x y w h`` in pixels, continuous: the arithmetic that reading, sampling and scoring share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.toolkit.data_issues import DataError

Array = NDArray[np.float64]

MIN_INITIAL_SIDE = 1.0
"""Of the part of an initial box that lies inside the image, pixels."""

MAX_INITIAL_SIDE = 4.0
"""Of an initial box, in sides of the image. A real box may reach past the border; a typing error is far longer."""


def centers(boxes: ArrayLike) -> Array:
    """Return the centers ``(..., 2)`` as x, y of boxes ``(..., 4)``."""
    boxes = np.asarray(boxes, dtype=np.float64)
    return boxes[..., :2] + boxes[..., 2:] / 2


def from_center(center: ArrayLike, size: ArrayLike) -> Array:
    """Return boxes ``(..., 4)`` with these centers and sizes, both ``(..., 2)`` as x, y and w, h."""
    center, size = np.asarray(center, dtype=np.float64), np.asarray(size, dtype=np.float64)
    return np.concatenate([center - size / 2, size], axis=-1)


def is_valid(boxes: ArrayLike) -> NDArray[np.bool_]:
    """Return for boxes ``(..., 4)`` whether each is finite and has an area, ``(...)``."""
    boxes = np.asarray(boxes, dtype=np.float64)
    return np.asarray(np.isfinite(boxes).all(axis=-1) & (boxes[..., 2:] > 0).all(axis=-1))


def intersection_over_union(first: ArrayLike, second: ArrayLike) -> Array:
    """Return the IoU ``(...)`` of boxes ``(..., 4)``; shapes broadcast, NaN boxes give NaN, empty ones 0.

    Boxes so large that their area is beyond what numbers hold have an IoU of 0 with others.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    low = np.maximum(first[..., :2], second[..., :2])
    with np.errstate(over="ignore", invalid="ignore"):
        high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
        intersection = np.prod(np.maximum(high - low, 0), axis=-1)
        areas = [np.prod(np.maximum(boxes[..., 2:], 0), axis=-1) for boxes in (first, second)]
        union = areas[0] + areas[1] - intersection
        quotient = np.where(union == 0, 0.0, intersection / np.where(union == 0, 1.0, union))
    # Rounding makes some equal boxes overlap by more than 1, which counts as above the last threshold of SR.
    return np.asarray(np.minimum(quotient, 1.0))


def clipped(boxes: ArrayLike, width: float, height: float) -> Array:
    """Return the parts of boxes ``(..., 4)`` inside an image; nothing is left of one that is wholly outside."""
    boxes = np.asarray(boxes, dtype=np.float64)
    low = np.clip(boxes[..., :2], 0, (width, height))
    high = np.clip(boxes[..., :2] + boxes[..., 2:], 0, (width, height))
    return np.concatenate([low, high - low], axis=-1)


def enclosing(polygons: ArrayLike) -> Array:
    """Return the axis-aligned boxes ``(T, 4)`` around polygons ``(T, 2 * points)`` given as x1 y1 x2 y2 ..."""
    points = np.asarray(polygons, dtype=np.float64)
    points = points.reshape(len(points), -1, 2)
    low, high = points.min(axis=1), points.max(axis=1)
    return np.concatenate([low, high - low], axis=-1)


def check_initial(box: ArrayLike, width: int, height: int, *, where: str) -> Array:
    """Return the box a tracker may start from, or say why it can't.

    Args:
        box: ``(4,)`` as ``x y w h``, pixels.
        width: the image's width, pixels.
        height: the image's height, pixels.
        where: what gave the box (an argument or a file), named in the error.

    Raises:
        DataError: not four finite numbers, no area, less than a pixel inside the image, or far larger than the image.
    """
    initial = np.asarray(box, dtype=np.float64)
    shown = ",".join(f"{value:g}" for value in initial.ravel())
    if initial.shape != (4,) or not np.isfinite(initial).all():
        raise DataError(f"{where}: the initial box must be four finite numbers x,y,w,h; got {shown or 'nothing'}")
    if (initial[2:] <= 0).any():
        raise DataError(f"{where}: the initial box {shown} has no area: width and height must be above 0")
    x, y, w, h = initial
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise DataError(f"{where}: the initial box {shown} lies outside the image of {width} x {height} pixels")
    if w > MAX_INITIAL_SIDE * width or h > MAX_INITIAL_SIDE * height:
        raise DataError(
            f"{where}: the initial box {shown} is over {MAX_INITIAL_SIDE:g} times as long as the image of "
            f"{width} x {height} pixels"
        )
    inside = clipped(initial, width, height)[2:]
    if (inside < MIN_INITIAL_SIDE).any():
        raise DataError(
            f"{where}: of the initial box {shown} only {inside[0]:g} x {inside[1]:g} pixels lie inside the image of "
            f"{width} x {height}; expected at least {MIN_INITIAL_SIDE:g} x {MIN_INITIAL_SIDE:g}"
        )
    return initial
