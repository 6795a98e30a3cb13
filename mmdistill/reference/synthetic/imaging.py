"""Simulates the imaging: a moving camera in front of a background, and the RGB and TIR sensors."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.reference.synthetic.motion import Oscillation, Poses
from mmdistill.reference.synthetic.textures import TextureSource
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.sequence import FramePair

Tones = NDArray[np.float64]
"""Tones ``(..., 4)``: red, green, blue and temperature, 0 to 255."""

MAX_ZOOM_SHIFT, MAX_ROLL_SHIFT = 0.5, 0.4
"""Maximum shift of the image's border by zoom and by roll, as a share of the camera's motion."""

MAX_LIGHT_CHANGE = Pair(rgb=0.15, tir=0.05)
"""Maximum relative change of brightness in a video."""

NIGHT_LIGHT = (0.04, 0.12)
"""Range of the share of light left in full darkness."""

NIGHT_NOISE = 6.0
"""Standard deviation of the noise added in full darkness, gray levels."""

GRAIN_MEAN, GRAIN_DEVIATION = 128, 32
"""Grain is stored as 8-bit numbers with this mean and standard deviation."""

GRAIN_MARGIN = 48
"""Pixels by which the grain is larger than the image, so that each frame uses another part of it."""


@dataclass(frozen=True)
class VirtualCamera:
    """A moving camera in front of a background.

    Args:
        background: red, green, blue and temperature, ``(H, W, 4)`` uint8, larger than the image.
        maps: affine maps from the image's pixels to the background's, ``(T, 2, 3)``.
        size: width and height of the image.
    """

    background: NDArray[np.uint8]
    maps: Array
    size: tuple[int, int]

    @classmethod
    def random(
        cls, generator: np.random.Generator, textures: TextureSource, time: Array, size: tuple[int, int], motion: float
    ) -> VirtualCamera:
        """Return a camera with a random background; it moves by ``motion`` pixels at most."""
        extent = np.array(size)
        margin = int(np.ceil((1 + MAX_ZOOM_SHIFT + MAX_ROLL_SHIFT) * motion)) + 1
        border = motion / (extent.max() / 2)
        width, height = (int(side) for side in extent + 2 * margin)
        background = np.dstack(textures.background(generator, (width, height)))
        sway = Oscillation.random(generator, 4, period=generator.uniform(60, 200))(time)
        zoom = np.repeat(1 + MAX_ZOOM_SHIFT * border * sway[:, 2:3], 2, axis=1)
        linear = Poses(sway[:, :2], zoom, MAX_ROLL_SHIFT * border * sway[:, 3]).linear()
        shift = extent / 2 + margin + motion * sway[:, :2] - linear @ (extent / 2)
        return cls(background, np.concatenate([linear, shift[..., None]], axis=-1), size)

    def view(self, index: int) -> NDArray[np.uint8]:
        """Return the visible background ``(H, W, 4)`` in frame ``index``."""
        warp = self.maps[index].copy()
        warp[:, 2] += warp[:, :2] @ (0.5, 0.5) - 0.5
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        view = cv2.warpAffine(self.background, warp, self.size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(view, np.uint8)

    def surroundings(self, points: Array, extent: float) -> Tones:
        """Return the mean tones ``(T, 4)`` in a window around a point ``(T, 2)`` of each frame.

        Args:
            points: x, y in image pixels.
            extent: side of the window, pixels.
        """
        side = max(int(extent), 1)
        smooth = cv2.blur(self.background, (side, side))
        on_background = np.einsum("tij,tj->ti", self.maps[:, :, :2], points) + self.maps[:, :, 2]
        x, y = np.clip(on_background.astype(int), 0, np.array(smooth.shape[1::-1]) - 1).T
        return np.asarray(smooth[y, x], dtype=np.float64)


@dataclass(frozen=True)
class Sensors:
    """An RGB and a TIR sensor.

    Args:
        gain: brightness factor of each modality in each frame, ``(T, 2)``.
        noise: standard deviation of the noise of each modality in each frame, gray levels, ``(T, 2)``.
        grain: noise of unit deviation, RGB ``(H, W, 3)`` and TIR ``(H, W)``, larger than the image.
        starts: first row and column of the grain in each frame, ``(T, 2)``.
    """

    gain: Array
    noise: Array
    grain: Pair[NDArray[np.uint8]]
    starts: NDArray[np.int64]

    @classmethod
    def random(
        cls, generator: np.random.Generator, darkness: Array, size: tuple[int, int], noise: tuple[float, float]
    ) -> Sensors:
        """Return random sensors.

        Args:
            generator: the source of randomness.
            darkness: ``(T,)``, 0 to 1; affects RGB only.
            size: width and height of the image.
            noise: range of the noise's standard deviation, gray levels.
        """
        time = np.arange(len(darkness), dtype=np.float64)
        change = Oscillation.random(generator, 2, period=generator.uniform(40, 150))(time)
        gain = 1 + np.array(MAX_LIGHT_CHANGE) * change
        gain[:, 0] *= 1 - (1 - generator.uniform(*NIGHT_LIGHT)) * darkness
        deviation = np.tile(generator.uniform(*noise, 2), (len(time), 1))
        deviation[:, 0] += NIGHT_NOISE * darkness
        grain = generator.standard_normal((size[1] + GRAIN_MARGIN, size[0] + GRAIN_MARGIN, 4), dtype=np.float32)
        levels = np.clip(grain * GRAIN_DEVIATION + GRAIN_MEAN, 0, 255).astype(np.uint8)
        parts = Pair(np.ascontiguousarray(levels[..., :3]), np.ascontiguousarray(levels[..., 3]))
        return cls(gain, deviation, parts, generator.integers(GRAIN_MARGIN, size=(len(time), 2)))

    def expose(self, scene: NDArray[np.uint8], index: int) -> FramePair:
        """Return frame ``index`` of a scene ``(H, W, 4)``."""
        height, width = scene.shape[:2]
        y, x = self.starts[index]
        rgb, tir = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.uint8)
        cv2.mixChannels([scene], [rgb, tir], [0, 0, 1, 1, 2, 2, 3, 3])
        # Thermal optics are less sharp than those for visible light.
        tir = np.asarray(cv2.GaussianBlur(tir, (5, 5), 0.9), np.uint8)
        exposed = []
        for image, grain, gain, noise in zip((rgb, tir), self.grain, self.gain[index], self.noise[index], strict=True):
            strength = noise / GRAIN_DEVIATION
            part = grain[y : y + height, x : x + width]
            exposed.append(cv2.addWeighted(image, gain, part, strength, -strength * GRAIN_MEAN))
        return Pair(
            np.asarray(exposed[0], np.uint8), np.asarray(cv2.cvtColor(exposed[1], cv2.COLOR_GRAY2RGB), np.uint8)
        )
