"""Square crops around a target: geometry, cutting, and normalized tensors for the networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mmdistill.toolkit.sequence import Image

MAX_DOWNSCALING = 2
"""Image pixels per crop pixel up to which a crop is interpolated; above, pixels are averaged."""


class CropGeometry(NamedTuple):
    """A crop's position in its image, and its scale.

    Attributes:
        left: first column, image pixels; may be outside the image.
        top: first row, image pixels; may be outside the image.
        side: side of the square in the image, image pixels.
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
        """Convert boxes ``(..., 4)``, ``x y w h``, from image pixels to crop pixels."""
        return (np.asarray(boxes, dtype=np.float64) - [self.left, self.top, 0, 0]) / self.scale

    def to_image(self, boxes: ArrayLike) -> NDArray[np.float64]:
        """Convert boxes ``(..., 4)``, ``x y w h``, from crop pixels to image pixels."""
        return np.asarray(boxes, dtype=np.float64) * self.scale + [self.left, self.top, 0, 0]


def crop_geometry(center: ArrayLike, side: float, size: int) -> CropGeometry:
    """Return a crop's geometry, rounded to whole image pixels.

    Args:
        center: x, y of the crop's center, image pixels.
        side: the square's side, image pixels.
        size: side of the crop, crop pixels.
    """
    x, y = np.asarray(center, dtype=np.float64)
    whole = max(round(side), 2)
    return CropGeometry(round(float(x) - whole / 2), round(float(y) - whole / 2), whole, size)


def cut(image: Image, geometry: CropGeometry) -> Image:
    """Return the crop ``(size, size, 3)``. Pixels outside the image repeat its border."""
    left, top, side, size = geometry
    first_row, last_row, above, below = _overlap(top, side, image.shape[0])
    first_column, last_column, before, after = _overlap(left, side, image.shape[1])
    part = image[first_row:last_row, first_column:last_column]
    if side > MAX_DOWNSCALING * size:
        # The search area may be far larger than the image. Few border pixels are padded before downscaling, so that
        # the outer pixels of the result show only the border; the rest is padded after it.
        width = min(2 * math.ceil(side / size), *part.shape[:2])
        padding = [min(width, cells) for cells in (above, below, before, after)]
        padded = _pad(part, *padding)
        columns = _crop_split(before - padding[2], after - padding[3], side, size)
        rows = _crop_split(above - padding[0], below - padding[1], side, size)
        resized = cv2.resize(padded, (columns[1], rows[1]), interpolation=cv2.INTER_AREA)
        return _pad(np.asarray(resized, dtype=np.uint8), rows[0], rows[2], columns[0], columns[2])
    part = _pad(part, above, below, before, after)[:side, :side]
    return np.asarray(cv2.resize(part, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _pad(image: Image, above: int, below: int, before: int, after: int) -> Image:
    """Pad an image by repeating its border; without padding it is not copied."""
    if not (above or below or before or after):
        return image
    return np.asarray(cv2.copyMakeBorder(image, above, below, before, after, cv2.BORDER_REPLICATE), dtype=np.uint8)


def _crop_split(before: int, after: int, side: int, size: int) -> tuple[int, int, int]:
    """Return the numbers of crop pixels before, inside (at least one) and after the image; their sum is ``size``."""
    first = min(round(before * size / side), size - 1)
    last = max(round((side - after) * size / side), first + 1)
    return first, last - first, size - last


def _overlap(start: int, length: int, limit: int) -> tuple[int, int, int, int]:
    """Return the bounds of the overlap with ``0..limit`` (at least one pixel), and the lengths before and after it."""
    first = min(max(start, 0), limit - 1)
    last = max(min(start + length, limit), first + 1)
    return first, last, max(first - start, 0), max(start + length - last, 0)


IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Channel means of ImageNet, on the scale 0 to 1. RGB and TIR use them: both pass ImageNet trunks."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Channel standard deviations of ImageNet, on the scale 0 to 1."""

_SCALE = (1 / (255 * np.array(IMAGENET_STD))).astype(np.float32)
_OFFSET = (np.array(IMAGENET_MEAN) / np.array(IMAGENET_STD)).astype(np.float32)


def to_tensor(images: Sequence[Image]) -> Tensor:
    """Return normalized images, float32 ``(B, 3, H, W)``, channels last in memory, from ``(H, W, 3)`` of one size."""
    pixels = np.stack(images)
    count, height, width, _ = pixels.shape
    # NumPy: starting torch's threads costs more than the work.
    # Whole rows: an inner axis of three channels takes ten times as long.
    rows = pixels.reshape(count, height, -1) * np.tile(_SCALE, width)
    rows -= np.tile(_OFFSET, width)
    return torch.from_numpy(rows.reshape(pixels.shape)).permute(0, 3, 1, 2)


def to_pixels(images: Sequence[Image]) -> Tensor:
    """Return images, uint8 ``(B, 3, H, W)``, channels last in memory, from ``(H, W, 3)`` of one size."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def normalization_rows(width: int) -> tuple[Tensor, Tensor]:
    """Return scale and offset of a row of pixels, ``(3 * width,)``, channels fastest.

    A normalized value is the pixel's times the scale, minus the offset.
    """
    return torch.from_numpy(np.tile(_SCALE, width)), torch.from_numpy(np.tile(_OFFSET, width))


def normalize(pixels: Tensor, rows: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Normalize pixels ``(..., 3, H, W)`` of ``to_pixels`` on their device, bit for bit as ``to_tensor``.

    Args:
        pixels: integers from 0 to 255.
        rows: ``normalization_rows`` on the device, for callers that keep them there.
    """
    values = pixels.movedim(-3, -1).flatten(-2)
    width = pixels.shape[-1]
    scale, offset = rows or (each.to(pixels.device) for each in normalization_rows(width))
    # Two rounded operations, as in NumPy; a fused one gives other bits.
    return (values * scale).sub_(offset).reshape(*values.shape[:-1], width, 3).movedim(-1, -3)
