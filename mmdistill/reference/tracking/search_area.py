"""The search areas: which part of each frame the network sees, and the way between image, crop and score map.

The targets' state, and the limits on scale and position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.crops import CropGeometry, crop_geometry, cut, to_tensor
from mmdistill.reference.device import upload
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.toolkit.boxes import Array, centers
from mmdistill.toolkit.sequence import Image


class Target(NamedTuple):
    """Where a target is.

    Attributes:
        box: ``(4,)`` as ``x y w h``, image pixels.
        scale: image pixels per crop pixel of the crop in which it is looked for.
    """

    box: Array
    scale: float


class ScaleLimits(NamedTuple):
    """How the scale follows a target's size.

    Attributes:
        base_size: the first frame's width and height, crop pixels.
        low: the least scale, image pixels per crop pixel.
        high: the largest scale.
    """

    base_size: Array
    low: float
    high: float

    def scale(self, size: Array) -> float:
        """Return the scale for a target of this width and height, image pixels."""
        return float(np.clip(np.sqrt(np.prod(size) / np.prod(self.base_size)), self.low, self.high))


def initial_scale(box: Array, search_area: float, crop_size: int) -> float:
    """Return the first frame's scale, image pixels per crop pixel.

    Args:
        box: the target ``(4,)``, ``x y w h`` in image pixels.
        search_area: the crop's side relative to the root of the target's area.
        crop_size: the crop's side, crop pixels.
    """
    return float(search_area * np.sqrt(box[2] * box[3]) / crop_size)


def scale_limits(target: Target, image_size: tuple[int, int], minimum_side: float) -> ScaleLimits:
    """Return the limits for a target: no side below the minimum, none longer than the image's.

    A target that starts beyond a limit moves that limit, so that its scale does not jump at the second frame.

    Args:
        target: the first frame's.
        image_size: width and height, pixels.
        minimum_side: of the target, image pixels.
    """
    base_size = target.box[2:] / target.scale
    low = float((minimum_side / base_size).max())
    high = float((image_size / base_size).min())
    return ScaleLimits(base_size, min(low, target.scale), max(high, target.scale))


def keep_inside(boxes: Tensor, image_sizes: Tensor, share: float) -> Tensor:
    """Return boxes no longer than their images, moved so that a share of each lies inside, along either axis.

    Args:
        boxes: ``(S, 4)`` as ``x y w h``, pixels.
        image_sizes: width and height, ``(S, 2)``, pixels.
        share: at most a half.
    """
    size = torch.minimum(boxes[:, 2:], image_sizes)
    beyond = (0.5 - share) * size
    center = (boxes[:, :2] + boxes[:, 2:] / 2).clamp(min=-beyond, max=image_sizes + beyond)
    return torch.cat([center - size / 2, size], dim=-1)


STRIDE = 16
"""Crop pixels per cell of a score map."""


class SearchAreas(NamedTuple):
    """Where S crops lie in their images, on the network's device, in float64.

    Attributes:
        corner: x, y of the first pixel, ``(S, 2)``, image pixels.
        scale: image pixels per crop pixel, ``(S, 1)``.
        image_size: width and height, ``(S, 2)``, pixels.
    """

    corner: Tensor
    scale: Tensor
    image_size: Tensor

    def to_crop(self, boxes: Tensor) -> Tensor:
        """Return boxes ``(S, 4)``, ``x y w h`` in image pixels, in crop pixels."""
        return torch.cat([boxes[:, :2] - self.corner, boxes[:, 2:]], dim=-1) / self.scale

    def to_image(self, boxes: Tensor) -> Tensor:
        """Return boxes ``(S, 4)``, ``x y w h`` in crop pixels, in image pixels."""
        boxes = boxes * self.scale
        return torch.cat([boxes[:, :2] + self.corner, boxes[:, 2:]], dim=-1)


def search_geometry(target: Target, network: NetworkSettings, factor: int = 1) -> CropGeometry:
    """Return the square around a target that the network sees.

    Score cells stand at multiples of the stride. When the crop is an odd number of them long, its center lies between
    two; the square is then half a cell further right and down, so that the target is centerd on a cell.

    Args:
        target: what to look for.
        network: says how large its crops and score maps are.
        factor: how many times as large the square and its crop are to be.
    """
    shift = network.feature_size % 2 * STRIDE / 2
    size = network.crop_size * factor
    return crop_geometry(centers(target.box) + shift * target.scale, size * target.scale, size)


def in_cells(boxes: Tensor, network: NetworkSettings) -> tuple[Tensor, Tensor]:
    """Return the boxes' centers, from the score map's center, and their sizes; each ``(S, 2)`` as x, y, cells.

    Args:
        boxes: ``(S, 4)`` as ``x y w h``, crop pixels.
        network: says how large its crops and score maps are.
    """
    return (boxes[:, :2] + boxes[:, 2:] / 2) / STRIDE - (network.score_size - 1) / 2, boxes[:, 2:] / STRIDE


def at_cells(displacement: Tensor, size: Tensor, network: NetworkSettings) -> Tensor:
    """Return the boxes ``(S, 4)`` in crop pixels whose centers are there: the inverse of ``in_cells``.

    Args:
        displacement: x, y from the score map's center, ``(S, 2)``, cells.
        size: width and height, ``(S, 2)``, crop pixels.
        network: says how large its crops and score maps are.
    """
    center = STRIDE * (displacement + (network.score_size - 1) / 2)
    return torch.cat([center - size / 2, size], dim=-1)


def cut_pair(images: Pair[Image], geometry: CropGeometry) -> Pair[Image]:
    """Return the crops of both images; one image in both places is cut once."""
    rgb = cut(images.rgb, geometry)
    return Pair(rgb, rgb if images.tir is images.rgb else cut(images.tir, geometry))


def stack(crops: Sequence[Pair[Image]], like: Tensor) -> Pair[Tensor]:
    """Return crops as normalized images ``(B, 3, H, W)``, with the device and the type of a tensor."""
    if all(crop.rgb is crop.tir for crop in crops):
        images = upload(to_tensor([crop.rgb for crop in crops]).to(like.dtype), like.device)
        return Pair(images, images)
    images = upload(
        to_tensor([*(crop.rgb for crop in crops), *(crop.tir for crop in crops)]).to(like.dtype), like.device
    )
    return Pair(*images.chunk(2))
