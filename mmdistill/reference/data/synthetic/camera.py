"""The camera: which part of a larger background each frame shows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.data.synthetic.motion import Array, Oscillation, Poses
from mmdistill.reference.data.synthetic.textures import TextureSource
from mmdistill.reference.data.synthetic.tones import Tones

ZOOM = 0.5
ROLL = 0.4
"""By how much of its motion the camera shifts the image's border at most by zooming and by rolling."""


@dataclass(frozen=True)
class Camera:
    """A camera before a background.

    Args:
        background: red, green, blue and temperature, ``(H, W, 4)`` uint8, larger than the image.
        maps: for each frame the affine map from the image's pixels to the background's, ``(T, 2, 3)``.
        size: width and height of the image.
    """

    background: NDArray[np.uint8]
    maps: Array
    size: tuple[int, int]

    @classmethod
    def random(
        cls, generator: np.random.Generator, textures: TextureSource, time: Array, size: tuple[int, int], motion: float
    ) -> Camera:
        """Return a camera that sways by ``motion`` pixels at most before a background drawn for it."""
        extent = np.array(size)
        margin = int(np.ceil((1 + ZOOM + ROLL) * motion)) + 1
        border = motion / (extent.max() / 2)
        width, height = (int(side) for side in extent + 2 * margin)
        background = np.dstack(textures.background(generator, (width, height)))
        sway = Oscillation.random(generator, 4, period=generator.uniform(60, 200))(time)
        zoom = np.repeat(1 + ZOOM * border * sway[:, 2:3], 2, axis=1)
        linear = Poses(sway[:, :2], zoom, ROLL * border * sway[:, 3]).linear()
        shift = extent / 2 + margin + motion * sway[:, :2] - linear @ (extent / 2)
        return cls(background, np.concatenate([linear, shift[..., None]], axis=-1), size)

    def view(self, index: int) -> NDArray[np.uint8]:
        """Return what the camera sees in frame ``index``, ``(H, W, 4)``."""
        warp = self.maps[index].copy()
        warp[:, 2] += warp[:, :2] @ (0.5, 0.5) - 0.5
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        seen = cv2.warpAffine(self.background, warp, self.size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(seen, np.uint8)

    def surroundings(self, points: Array, extent: float) -> Tones:
        """Return the mean tones ``(T, 4)`` of ``extent`` pixels around one point ``(T, 2)`` per frame."""
        side = max(int(extent), 1)
        smooth = cv2.blur(self.background, (side, side))
        on_background = np.einsum("tij,tj->ti", self.maps[:, :, :2], points) + self.maps[:, :, 2]
        x, y = np.clip(on_background.astype(int), 0, np.array(smooth.shape[1::-1]) - 1).T
        return np.asarray(smooth[y, x], dtype=np.float64)
