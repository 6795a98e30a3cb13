"""The target's state, and the limits on its scale and position."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mmdistill.reference.data.boxes import Array, centres, from_centre


class Target(NamedTuple):
    """Where the target is.

    Attributes:
        box: ``(4,)`` as ``x y w h``, image pixels.
        scale: image pixels per crop pixel of the crop in which it is looked for.
    """

    box: Array
    scale: float


class ScaleLimits(NamedTuple):
    """How the scale follows the target's size.

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


def keep_inside(box: Array, image_size: tuple[int, int], share: float) -> Array:
    """Return the box, no longer than the image and moved so that a share of it lies inside, along either axis.

    Args:
        box: ``(4,)`` as ``x y w h``, pixels.
        image_size: width and height, pixels.
        share: at most a half.
    """
    size = np.minimum(box[2:], image_size)
    beyond = (0.5 - share) * size
    return from_centre(np.clip(centres(box), -beyond, image_size + beyond), size)
