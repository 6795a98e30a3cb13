"""Box arithmetic. Boxes are ``x y w h`` in pixels: the corner of least x and y, width and height, not rounded."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.toolkit.data_issues import DataError

Array = NDArray[np.float64]

MIN_INITIAL_SIDE = 1.0
"""Smallest width and height of an initial box inside the image, pixels."""

MAX_INITIAL_SIDE = 4.0
"""Largest width and height of an initial box, relative to the image: boxes may cross its border."""


def centers(boxes: ArrayLike) -> Array:
    """Return the centers ``(..., 2)`` as x, y of boxes ``(..., 4)``."""
    boxes = np.asarray(boxes, dtype=np.float64)
    return boxes[..., :2] + boxes[..., 2:] / 2


def from_center(center: ArrayLike, size: ArrayLike) -> Array:
    """Return boxes ``(..., 4)`` of centers x, y and sizes w, h, each ``(..., 2)``."""
    center, size = np.asarray(center, dtype=np.float64), np.asarray(size, dtype=np.float64)
    return np.concatenate([center - size / 2, size], axis=-1)


def is_valid(boxes: ArrayLike) -> NDArray[np.bool_]:
    """Return for boxes ``(..., 4)`` whether each is finite and has an area, ``(...)``."""
    boxes = np.asarray(boxes, dtype=np.float64)
    return np.asarray(np.isfinite(boxes).all(axis=-1) & (boxes[..., 2:] > 0).all(axis=-1))


def intersection_over_union(first: ArrayLike, second: ArrayLike) -> Array:
    """Return the IoU ``(...)`` of boxes ``(..., 4)``; shapes broadcast.

    The IoU is NaN with a box of NaN, 0 with an empty box, and 0 with another box where an area overflows.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    low = np.maximum(first[..., :2], second[..., :2])
    with np.errstate(over="ignore", invalid="ignore"):
        high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
        intersection = np.prod(np.maximum(high - low, 0), axis=-1)
        areas = [np.prod(np.maximum(boxes[..., 2:], 0), axis=-1) for boxes in (first, second)]
        union = areas[0] + areas[1] - intersection
        quotient = np.where(union == 0, 0.0, intersection / np.where(union == 0, 1.0, union))
    # Rounding makes the IoU of some equal boxes exceed 1, which would count as above the last threshold of SR.
    return np.asarray(np.minimum(quotient, 1.0))


def clip_boxes(boxes: ArrayLike, width: ArrayLike, height: ArrayLike) -> Array:
    """Return the parts of boxes ``(..., 4)`` inside an image; a box outside the image becomes empty.

    Args:
        boxes: ``(..., 4)`` as ``x y w h``, pixels.
        width: of the image, or of each box's image, ``(...)``.
        height: likewise.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    size = np.stack([width, height], axis=-1)
    low = np.clip(boxes[..., :2], 0, size)
    high = np.clip(boxes[..., :2] + boxes[..., 2:], 0, size)
    return np.concatenate([low, high - low], axis=-1)


def enclosing_boxes(polygons: ArrayLike) -> Array:
    """Return the axis-aligned boxes ``(T, 4)`` around polygons ``(T, 2 * points)`` given as x1 y1 x2 y2 ..."""
    points = np.asarray(polygons, dtype=np.float64)
    points = points.reshape(len(points), -1, 2)
    low, high = points.min(axis=1), points.max(axis=1)
    return np.concatenate([low, high - low], axis=-1)


def from_corners(corners: ArrayLike) -> Array:
    """Return boxes ``(..., 4)`` of corners ``(..., 4)`` given as x1 y1 x2 y2."""
    corners = np.asarray(corners, dtype=np.float64)
    return np.concatenate([corners[..., :2], corners[..., 2:] - corners[..., :2]], axis=-1)


def check_initial_box(box: ArrayLike, width: int, height: int, *, where: str) -> Array:
    """Return an initial box that a tracker can start from.

    Args:
        box: ``(4,)`` as ``x y w h``, pixels.
        width: width of the image, pixels.
        height: height of the image, pixels.
        where: the argument or file of the box, for errors.

    Raises:
        DataError: not four finite numbers, no area, less than a pixel inside the image, or far larger than the image.
    """
    initial = np.asarray(box, dtype=np.float64)
    text = ",".join(f"{value:g}" for value in initial.ravel())
    if initial.shape != (4,) or not np.isfinite(initial).all():
        raise DataError(f"{where}: the initial box must be four finite numbers x,y,w,h; got {text or 'nothing'}")
    if not is_valid(initial):
        raise DataError(f"{where}: the initial box {text} has no area: width and height must be above 0")
    x, y, w, h = initial
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise DataError(f"{where}: the initial box {text} lies outside the image of {width} x {height} pixels")
    if w > MAX_INITIAL_SIDE * width or h > MAX_INITIAL_SIDE * height:
        raise DataError(
            f"{where}: the initial box {text} is over {MAX_INITIAL_SIDE:g} times as long as the image of "
            f"{width} x {height} pixels"
        )
    inside = clip_boxes(initial, width, height)[2:]
    if (inside < MIN_INITIAL_SIDE).any():
        raise DataError(
            f"{where}: of the initial box {text} only {inside[0]:g} x {inside[1]:g} pixels lie inside the image of "
            f"{width} x {height}; expected at least {MIN_INITIAL_SIDE:g} x {MIN_INITIAL_SIDE:g}"
        )
    return initial
