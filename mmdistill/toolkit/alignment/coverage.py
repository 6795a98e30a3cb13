"""What TIR covers of RGB's frame: whether it covers a target, and the largest rectangle that it covers."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.toolkit.alignment.alignment import Mask
from mmdistill.toolkit.data_issues import DataError

SEARCH_AREA = 5.0
"""Side of a target's search area, relative to the root of the box's area."""

MIN_COVERED = 0.5
"""Share of the box, and of the search area, that TIR must cover to count as present."""

MAX_GRID = 256
"""Longest side of the grid in which the largest rectangle is searched, cells."""


def covers_target(mask: Mask, box: ArrayLike) -> bool:
    """Return whether TIR covers at least half of a target's box and half of its search area.

    Only the parts inside the image count. A box without a label (NaN), or outside the image, counts as covered.

    Args:
        mask: the pixels that TIR covers, ``(H, W)``.
        box: the target ``(4,)``, ``x y w h`` in pixels.
    """
    numbers = np.asarray(box, dtype=np.float64)
    if numbers.shape != (4,) or not np.isfinite(numbers).all():
        return True
    x, y, width, height = numbers.tolist()
    side = SEARCH_AREA * math.sqrt(max(width * height, 0.0))
    center = x + width / 2, y + height / 2
    return all(_covered_share(mask, center, sides) >= MIN_COVERED for sides in ((width, height), (side, side)))


def _covered_share(mask: Mask, center: tuple[float, float], sides: tuple[float, float]) -> float:
    """Return the covered share of a rectangle's part in the image; 1 if there is none."""
    (left, right), (top, bottom) = (
        np.clip([round(middle - side / 2), max(round(middle + side / 2), round(middle - side / 2) + 1)], 0, limit)
        for middle, side, limit in zip(center, sides, mask.shape[::-1], strict=True)
    )
    part = mask[top:bottom, left:right]
    return float(part.mean()) if part.size else 1.0


def largest_rectangle(mask: Mask) -> tuple[slice, slice]:
    """Return rows and columns of about the largest rectangle in which each pixel is covered.

    Large images are searched in cells of several pixels; a cell counts if all its pixels are covered.

    Args:
        mask: the pixels that TIR covers, ``(H, W)``.

    Raises:
        DataError: there is no such rectangle.
    """
    step = math.ceil(max(mask.shape) / MAX_GRID)
    rows, columns = (side // step for side in mask.shape)
    cells = np.asarray(mask[: rows * step, : columns * step].reshape(rows, step, columns, step).all(axis=(1, 3)))
    area, best = 0, (0, 0, 0, 0)
    heights: NDArray[np.int64] = np.zeros(columns, dtype=np.int64)
    for row in range(rows):
        heights = np.where(cells[row], heights + 1, 0)
        # The widest run of columns at least as high as each column, by a stack of rising heights.
        stack: list[tuple[int, int]] = []
        for column, height in enumerate([*heights.tolist(), 0]):
            first = column
            while stack and stack[-1][1] >= height:
                first, higher = stack.pop()
                if higher * (column - first) > area:
                    area, best = higher * (column - first), (row + 1 - higher, row + 1, first, column)
            stack.append((first, height))
    if not area:
        raise DataError("alignment: TIR covers no part of RGB's frame")
    top, bottom, left, right = (step * edge for edge in best)
    return slice(top, bottom), slice(left, right)
