"""The two cameras' sensors: light, blur and noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.reference.data.sequence import FramePair
from mmdistill.reference.data.synthetic.motion import Array, Oscillation

LIGHT_CHANGE = Pair(rgb=0.15, tir=0.05)
"""The share by which brightness changes at most in the course of a video."""

LIGHT_AT_NIGHT = (0.04, 0.12)
NOISE_AT_NIGHT = 6.0
"""In full darkness: the share of the light that is left, from to, and the noise that is added, grey levels."""

GRAIN_MIDDLE, GRAIN_DEVIATION = 128, 32
"""Grain is unit noise held as 8-bit numbers: mean and deviation."""

SLACK = 48
"""Grain is this much larger than the image, so that each frame can take another part of it."""


@dataclass(frozen=True)
class Sensors:
    """An RGB and a TIR sensor.

    Args:
        gain: brightness of each modality in each frame, ``(T, 2)``.
        noise: deviation of each modality's noise in each frame, grey levels, ``(T, 2)``.
        grain: noise of unit deviation, RGB ``(H, W, 3)`` and TIR ``(H, W)``, larger than the image.
        starts: for each frame where it takes its part of the grain, ``(T, 2)`` as y, x.
    """

    gain: Array
    noise: Array
    grain: Pair[NDArray[np.uint8]]
    starts: NDArray[np.int64]

    @classmethod
    def random(
        cls, generator: np.random.Generator, darkness: Array, size: tuple[int, int], noise: tuple[float, float]
    ) -> Sensors:
        """Return sensors for an image of ``size``, whose RGB goes dark with ``darkness`` ``(T,)``."""
        time = np.arange(len(darkness), dtype=np.float64)
        change = Oscillation.random(generator, 2, period=generator.uniform(40, 150))(time)
        gain = 1 + np.array(LIGHT_CHANGE) * change
        gain[:, 0] *= 1 - (1 - generator.uniform(*LIGHT_AT_NIGHT)) * darkness
        deviation = np.tile(generator.uniform(*noise, 2), (len(time), 1))
        deviation[:, 0] += NOISE_AT_NIGHT * darkness
        grain = generator.standard_normal((size[1] + SLACK, size[0] + SLACK, 4), dtype=np.float32)
        levels = np.clip(grain * GRAIN_DEVIATION + GRAIN_MIDDLE, 0, 255).astype(np.uint8)
        parts = Pair(np.ascontiguousarray(levels[..., :3]), np.ascontiguousarray(levels[..., 3]))
        return cls(gain, deviation, parts, generator.integers(SLACK, size=(len(time), 2)))

    def expose(self, scene: NDArray[np.uint8], index: int) -> FramePair:
        """Return frame ``index`` of a scene ``(H, W, 4)``."""
        height, width = scene.shape[:2]
        y, x = self.starts[index]
        rgb, tir = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.uint8)
        cv2.mixChannels([scene], [rgb, tir], [0, 0, 1, 1, 2, 2, 3, 3])
        # Thermal optics are softer than those for visible light.
        tir = np.asarray(cv2.GaussianBlur(tir, (5, 5), 0.9), np.uint8)
        exposed = []
        for image, grain, gain, noise in zip((rgb, tir), self.grain, self.gain[index], self.noise[index], strict=True):
            strength = noise / GRAIN_DEVIATION
            part = grain[y : y + height, x : x + width]
            exposed.append(cv2.addWeighted(image, gain, part, strength, -strength * GRAIN_MIDDLE))
        return Pair(
            np.asarray(exposed[0], np.uint8), np.asarray(cv2.cvtColor(exposed[1], cv2.COLOR_GRAY2RGB), np.uint8)
        )
