"""Square crops around a target, and the way between image and crop coordinates.

From images to the tensors the networks take.
"""

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


def crop_geometry(center: ArrayLike, side: float, size: int) -> CropGeometry:
    """Return the square of whole image pixels nearest to the one asked for.

    Args:
        center: x, y of the crop's center, image pixels.
        side: the square's side, image pixels.
        size: side of the crop to be made, crop pixels.
    """
    x, y = np.asarray(center, dtype=np.float64)
    whole = max(round(side), 2)
    return CropGeometry(round(float(x) - whole / 2), round(float(y) - whole / 2), whole, size)


def cut(image: Image, geometry: CropGeometry) -> Image:
    """Return the crop ``(size, size, 3)``; what lies outside the image repeats its border."""
    left, top, side, size = geometry
    first_row, last_row, above, below = _inside(top, side, image.shape[0])
    first_column, last_column, before, after = _inside(left, side, image.shape[1])
    part = image[first_row:last_row, first_column:last_column]
    if side > 2 * size:
        # A search area may be far larger than the image: a few repeats are shrunk with what lies inside, so that the
        # crop's outer pixels hold the border alone, and these are repeated further.
        near = min(2 * math.ceil(side / size), *part.shape[:2])
        rings = [min(near, ring) for ring in (above, below, before, after)]
        ringed = _bordered(part, *rings)
        across = _shrunk(before - rings[2], after - rings[3], side, size)
        down = _shrunk(above - rings[0], below - rings[1], side, size)
        shrunk = cv2.resize(ringed, (across[1], down[1]), interpolation=cv2.INTER_AREA)
        return _bordered(np.asarray(shrunk, dtype=np.uint8), down[0], down[2], across[0], across[2])
    part = _bordered(part, above, below, before, after)[:side, :side]
    return np.asarray(cv2.resize(part, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _bordered(image: Image, above: int, below: int, before: int, after: int) -> Image:
    """Return the image with its border repeated; one that needs none is not copied."""
    if not (above or below or before or after):
        return image
    return np.asarray(cv2.copyMakeBorder(image, above, below, before, after, cv2.BORDER_REPLICATE), dtype=np.uint8)


def _shrunk(before: int, after: int, side: int, size: int) -> tuple[int, int, int]:
    """Return how many crop pixels lie before, inside (at least one) and after the image, of ``size`` in all."""
    first = min(round(before * size / side), size - 1)
    last = max(round((side - after) * size / side), first + 1)
    return first, last - first, size - last


def _inside(start: int, length: int, limit: int) -> tuple[int, int, int, int]:
    """Return the first and last cell inside ``0..limit`` (at least one), and how many to repeat on either side."""
    first = min(max(start, 0), limit - 1)
    last = max(min(start + length, limit), first + 1)
    return first, last, max(first - start, 0), max(start + length - last, 0)


# ImageNet's, on the scale 0 to 1; the public trunks were trained with them, and TIR passes the same trunks.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


_SCALE = (1 / (255 * np.array(IMAGENET_STD))).astype(np.float32)
_OFFSET = (np.array(IMAGENET_MEAN) / np.array(IMAGENET_STD)).astype(np.float32)


def to_tensor(images: Sequence[Image]) -> Tensor:
    """Return images ``(H, W, 3)`` of one size as a normalized float32 ``(B, 3, H, W)``, channels last in memory."""
    pixels = np.stack(images)
    count, height, width, _ = pixels.shape
    # In NumPy: waking torch's threads costs more than this little work.
    # By whole rows: with an inner axis of three channels it takes ten times as long.
    rows = pixels.reshape(count, height, -1) * np.tile(_SCALE, width)
    rows -= np.tile(_OFFSET, width)
    return torch.from_numpy(rows.reshape(pixels.shape)).permute(0, 3, 1, 2)


def to_pixels(images: Sequence[Image]) -> Tensor:
    """Return images ``(H, W, 3)`` of one size as uint8 ``(B, 3, H, W)``, channels last in memory."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def normalize(pixels: Tensor) -> Tensor:
    """Return what ``to_tensor`` makes of images, to the bit, where they are; ``(..., 3, H, W)`` from ``to_pixels``."""
    rows = pixels.movedim(-3, -1).flatten(-2)
    width = pixels.shape[-1]
    scale, offset = (torch.from_numpy(np.tile(values, width)).to(pixels.device) for values in (_SCALE, _OFFSET))
    # Two operations, each rounded: one alone, where there is one, gives other bits.
    return (rows * scale).sub_(offset).reshape(*rows.shape[:-1], width, 3).movedim(-1, -3)
