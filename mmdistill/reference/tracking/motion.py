"""The targets' state, and the limits on scale and position."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmdistill.reference.data.boxes import Array


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
    centre = (boxes[:, :2] + boxes[:, 2:] / 2).clamp(min=-beyond, max=image_sizes + beyond)
    return torch.cat([centre - size / 2, size], dim=-1)
