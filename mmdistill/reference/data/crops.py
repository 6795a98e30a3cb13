"""Square crops around a target, and the way between image and crop coordinates."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.reference.data.sequence import Image


class CropGeometry(NamedTuple):
    """Where a crop lies in its image.

    Attributes:
        left: first column, image pixels; may be outside the image.
        top: first row, image pixels.
        side: columns and rows that were cut, image pixels.
        size: side of the crop, crop pixels.
    """

    left: int
    top: int
    side: int
    size: int

    @property
    def scale(self) -> float:
        """Image pixels per crop pixel."""
        return self.side / self.size

    def to_crop(self, boxes: ArrayLike) -> NDArray[np.float64]:
        """Return boxes ``(..., 4)``, ``x y w h`` in image pixels, in crop pixels."""
        return (np.asarray(boxes, dtype=np.float64) - [self.left, self.top, 0, 0]) / self.scale

    def to_image(self, boxes: ArrayLike) -> NDArray[np.float64]:
        """Return boxes ``(..., 4)``, ``x y w h`` in crop pixels, in image pixels."""
        return np.asarray(boxes, dtype=np.float64) * self.scale + [self.left, self.top, 0, 0]


def crop_geometry(centre: ArrayLike, side: float, size: int) -> CropGeometry:
    """Return the square of whole image pixels nearest to the one asked for.

    Args:
        centre: x, y of the crop's centre, image pixels.
        side: the square's side, image pixels.
        size: side of the crop to be made, crop pixels.
    """
    x, y = np.asarray(centre, dtype=np.float64)
    whole = max(round(side), 2)
    return CropGeometry(round(float(x) - whole / 2), round(float(y) - whole / 2), whole, size)


def cut(image: Image, geometry: CropGeometry) -> Image:
    """Return the crop ``(size, size, 3)``; what lies outside the image repeats its border."""
    left, top, side, size = geometry
    first_row, last_row, above, below = _inside(top, side, image.shape[0])
    first_column, last_column, before, after = _inside(left, side, image.shape[1])
    # Only the part inside is copied, never a padded image: a search area may be far larger than the image.
    part = image[first_row:last_row, first_column:last_column]
    if above or below or before or after:
        part = np.asarray(cv2.copyMakeBorder(part, above, below, before, after, cv2.BORDER_REPLICATE))
        part = part[:side, :side]
    interpolation = cv2.INTER_AREA if side > 2 * size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (size, size), interpolation=interpolation), dtype=np.uint8)


def _inside(start: int, length: int, limit: int) -> tuple[int, int, int, int]:
    """Return the first and last cell inside ``0..limit`` (at least one), and how many to repeat on either side."""
    first = min(max(start, 0), limit - 1)
    last = max(min(start + length, limit), first + 1)
    return first, last, max(first - start, 0), max(start + length - last, 0)
