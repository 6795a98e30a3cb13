"""The target's state and search area, and conversion between image pixels, crop pixels and score-map cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.crops import CropGeometry, cut, to_tensor
from mmdistill.reference.device import upload
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.toolkit.boxes import Array, centers
from mmdistill.toolkit.sequence import Image

STRIDE = 16
"""Crop pixels per score-map cell: the stride of ResNet's ``layer3`` (DiMP, arXiv 1904.07220)."""


class Target(NamedTuple):
    """The state of a target, or of several.

    Attributes:
        box: ``(..., 4)`` as ``x y w h``, image pixels.
        scale: image pixels per crop pixel of the search area, ``(...)``.
    """

    box: Array
    scale: Array


class ScaleLimits(NamedTuple):
    """The relation of scale and target size, and the limits of the scale.

    Attributes:
        base_size: the first frame's width and height, ``(..., 2)``, crop pixels.
        low: the least scale, ``(...)``, image pixels per crop pixel.
        high: the largest scale, ``(...)``.
    """

    base_size: Array
    low: Array
    high: Array

    def scale(self, size: Array) -> Array:
        """Return the scales ``(...)`` for targets' widths and heights ``(..., 2)``, image pixels."""
        return np.asarray(np.clip(np.sqrt(size.prod(axis=-1) / self.base_size.prod(axis=-1)), self.low, self.high))


def initial_scale(box: Array, search_area: float, crop_size: int) -> Array:
    """Return the first frame's scale, ``(...)``, image pixels per crop pixel.

    Args:
        box: the target ``(..., 4)``, ``x y w h`` in image pixels.
        search_area: the crop's side relative to the root of the target's area.
        crop_size: the crop's side, crop pixels.
    """
    return np.asarray(search_area * np.sqrt(box[..., 2] * box[..., 3]) / crop_size)


def scale_limits(target: Target, image_size: tuple[int, int], minimum_side: float) -> ScaleLimits:
    """Return the limits of the scale: no target side below the minimum, none above the image's side.

    The limits include the first frame's scale, so that it does not jump at the second frame.

    Args:
        target: one target, in the first frame.
        image_size: width and height, pixels.
        minimum_side: of the target, image pixels.
    """
    base_size = target.box[2:] / target.scale
    low = (minimum_side / base_size).max()
    high = (image_size / base_size).min()
    return ScaleLimits(base_size, np.minimum(low, target.scale), np.maximum(high, target.scale))


class ImageBounds(NamedTuple):
    """The bounds of S images, each ``(S, 2)`` as x, y, in the pixels of the boxes: first and far corner, and size."""

    corner: Tensor
    far_corner: Tensor
    size: Tensor


def clamp_to_image(boxes: Tensor, images: ImageBounds, share: float) -> Tensor:
    """Return boxes no longer than their images, moved so that a share of each lies inside, along either axis.

    Args:
        boxes: ``(S, 4)`` as ``x y w h``, pixels.
        images: their images.
        share: at most 0.5.
    """
    size = torch.minimum(boxes[:, 2:], images.size)
    beyond = (0.5 - share) * size
    center = boxes[:, :2].add(boxes[:, 2:], alpha=0.5).clamp(images.corner - beyond, images.far_corner + beyond)
    return torch.cat([center.sub(size, alpha=0.5), size], dim=-1)


class SearchAreas(NamedTuple):
    """The positions of S crops in their images, on the network's device.

    Attributes:
        origin: x, y of the first pixel, 0, 0: ``(S, 1, 4)``, image pixels. A box at 0 in crop pixels lies there.
        scale: image pixels per crop pixel, ``(S, 1, 1)``.
    """

    origin: Tensor
    scale: Tensor

    def to_crop(self, boxes: Tensor) -> Tensor:
        """Return boxes ``(S, K, 4)``, ``x y w h`` in image pixels, in crop pixels."""
        return (boxes - self.origin) / self.scale

    def to_image(self, boxes: Tensor) -> Tensor:
        """Return boxes ``(S, K, 4)``, ``x y w h`` in crop pixels, in image pixels."""
        return torch.addcmul(self.origin, boxes, self.scale)


def search_areas(targets: Target, network: NetworkSettings, factor: int = 1) -> NDArray[np.int64]:
    """Return x, y of the first pixel, and the side of the targets' search areas, ``(..., 3)``, whole image pixels.

    Score-map cells lie at multiples of the stride. If the crop is an odd number of cells long, its center lies between
    two cells. The crop is then shifted by half a cell right and down, which centers the target on a cell.

    Args:
        targets: the targets.
        network: the sizes of crop and score map.
        factor: multiplies the sides of search area and crop.
    """
    shift = network.feature_size % 2 * STRIDE / 2
    scale = targets.scale[..., None]
    side = np.maximum(np.rint(network.crop_size * factor * scale), 2)
    corner = np.rint(centers(targets.box) + shift * scale - side / 2)
    return np.concatenate([corner, side], axis=-1).astype(np.int64)


def search_geometry(target: Target, network: NetworkSettings, factor: int = 1) -> CropGeometry:
    """Return the search area of one target; arguments as in ``search_areas``."""
    left, top, side = search_areas(target, network, factor).tolist()
    return CropGeometry(left, top, side, network.crop_size * factor)


def boxes_to_cells(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the boxes' centers in the score map, and their sizes; each ``(S, 2)`` as x, y, cells.

    Args:
        boxes: ``(S, 4)`` as ``x y w h``, crop pixels.
    """
    return boxes[:, :2].add(boxes[:, 2:], alpha=0.5) / STRIDE, boxes[:, 2:] / STRIDE


def cells_to_boxes(position: Tensor, size: Tensor) -> Tensor:
    """Return boxes ``(S, 4)``, ``x y w h`` in crop pixels, with their centers at positions in the score map.

    Args:
        position: x, y of the centers, ``(S, 2)``, cells.
        size: width and height of the boxes, ``(S, 2)``, crop pixels.
    """
    return torch.cat([(STRIDE * position).sub(size, alpha=0.5), size], dim=-1)


def cut_pair(images: Pair[Image], geometry: CropGeometry) -> Pair[Image]:
    """Return the crops of both images; if both are one image, it is cut once."""
    rgb = cut(images.rgb, geometry)
    return Pair(rgb, rgb if images.tir is images.rgb else cut(images.tir, geometry))


def stack(crops: Sequence[Pair[Image]], dtype: torch.dtype, device: torch.device) -> Pair[Tensor]:
    """Return crops as normalized images ``(B, 3, H, W)``."""
    if all(crop.rgb is crop.tir for crop in crops):
        images = upload(to_tensor([crop.rgb for crop in crops]).to(dtype), device)
        return Pair(images, images)
    images = upload(to_tensor([*(crop.rgb for crop in crops), *(crop.tir for crop in crops)]).to(dtype), device)
    return Pair(*images.chunk(2))
