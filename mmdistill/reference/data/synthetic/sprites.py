"""Sprites: cut-outs that can be drawn at any pose, and their exact boxes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.data.sequence import Boxes
from mmdistill.reference.data.synthetic.motion import Array, Poses
from mmdistill.reference.data.synthetic.textures import Cutout

BORDER = 2
"""Transparent pixels around a sprite, so that its edge stays soft when it is scaled."""


@dataclass(frozen=True)
class Sprite:
    """A thing to draw.

    Args:
        colours: red, green, blue and temperature, ``(H, W, 4)`` float32, 0 to 255.
        alpha: coverage ``(H, W)`` float32, 0 to 1; its border is 0.
        hull: the convex hull ``(P, 2)`` of the pixels that are half covered or more, x, y of their corners.
    """

    colours: NDArray[np.float32]
    alpha: NDArray[np.float32]
    hull: Array

    @classmethod
    def of(cls, cutout: Cutout) -> Sprite:
        """Return the sprite of a cut-out."""
        stacked = np.dstack([cutout.pair.rgb, cutout.pair.tir]).astype(np.float32)
        colours = cv2.copyMakeBorder(stacked, BORDER, BORDER, BORDER, BORDER, cv2.BORDER_REPLICATE)
        alpha = np.pad(cutout.mask / np.float32(255), BORDER)
        return cls(np.asarray(colours, np.float32), alpha, _hull(alpha >= 0.5))

    def maps(self, poses: Poses) -> Array:
        """Return the affine maps ``(T, 2, 3)`` from the sprite's pixels to the image's."""
        low, extent = self.hull.min(axis=0), np.ptp(self.hull, axis=0)
        linear = poses.linear() / extent
        shift = poses.centre - linear @ (low + extent / 2)
        return np.concatenate([linear, shift[..., None]], axis=-1)

    def boxes(self, maps: Array) -> Boxes:
        """Return the boxes ``(T, 4)``, ``x y w h``, of the hull under the maps."""
        points = self.hull @ maps[:, :, :2].swapaxes(1, 2) + maps[:, None, :, 2]
        low, high = points.min(axis=1), points.max(axis=1)
        return np.concatenate([low, high - low], axis=-1)

    def draw(self, image: NDArray[np.uint8], affine: Array, box: Array, opacity: NDArray[np.float32]) -> None:
        """Draw onto an image ``(H, W, 4)``, in place.

        Args:
            image: what to draw onto.
            affine: the map ``(2, 3)`` from the sprite's pixels to the image's.
            box: its box ``(4,)`` there.
            opacity: of each channel, ``(4,)``, 0 to 1.
        """
        left, top = (int(edge) - BORDER for edge in np.floor(box[:2]))
        right, bottom = (int(edge) + BORDER for edge in np.ceil(box[:2] + box[2:]))
        left, top = max(left, 0), max(top, 0)
        right, bottom = min(right, image.shape[1]), min(bottom, image.shape[0])
        if right <= left or bottom <= top:
            return
        # Our coordinates count from the corner of the first pixel, OpenCV's from its centre.
        warp = affine.copy()
        warp[:, 2] += affine[:, :2] @ (0.5, 0.5) - (left + 0.5, top + 0.5)
        size = (right - left, bottom - top)
        colours = cv2.warpAffine(self.colours, warp, size, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpAffine(self.alpha, warp, size)
        under = image[top:bottom, left:right]
        under[:] = under + (colours - under) * (alpha[..., None] * opacity)


def _hull(inside: NDArray[np.bool_]) -> Array:
    """Return the convex hull ``(P, 2)`` of the corners of the pixels that are ``inside`` ``(H, W)``."""
    rows = np.flatnonzero(inside.any(axis=1))
    # Each row's first and last pixel are enough.
    left, right = inside[rows].argmax(axis=1), inside.shape[1] - inside[rows, ::-1].argmax(axis=1)
    corners = [np.stack([x, rows + below], axis=1) for x in (left, right) for below in (0, 1)]
    hull = cv2.convexHull(np.concatenate(corners).astype(np.int32))
    return np.asarray(hull.reshape(-1, 2), dtype=np.float64)
