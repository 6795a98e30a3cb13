"""The camera: which part of a larger background each frame shows.

The two cameras' sensors: light, blur and noise.

Tones: making a thing stand out from what it will be seen against.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.reference.synthetic.motion import Array, Oscillation, Poses
from mmdistill.reference.synthetic.textures import TextureSource
from mmdistill.toolkit.sequence import FramePair

Tones = NDArray[np.float64]
"""Tones ``(..., 4)``: red, green, blue and temperature, 0 to 255."""

RGB, TIR = slice(0, 3), slice(3, 4)
CANDIDATES = 60


def standing_out(generator: np.random.Generator, tone: Tones, surroundings: Tones, wanted: float) -> Tones:
    """Return a tone ``(4,)`` that differs from all surroundings in each modality by itself.

    Each modality takes, of ``tone`` and random tones, the one closest to ``tone`` that is ``wanted`` away from
    all surroundings, or the one farthest from them where none is.

    Args:
        generator: the source of the random tones.
        tone: the tone to begin with, ``(4,)``.
        surroundings: the tones it will be seen against, ``(N, 4)``.
        wanted: the Euclidean distance of colors, or of temperatures, that is enough.
    """
    candidates = np.concatenate([tone[None], generator.uniform(10, 245, (CANDIDATES, 4))])
    chosen = np.array(tone, dtype=np.float64)
    for channels in (RGB, TIR):
        away = candidates[:, None, channels] - surroundings[None, :, channels]
        nearest = np.linalg.norm(away, axis=-1).min(axis=1)
        change = np.linalg.norm(candidates[:, channels] - tone[channels], axis=-1)
        enough = nearest >= wanted
        best = np.argmin(np.where(enough, change, np.inf)) if enough.any() else np.argmax(nearest)
        chosen[channels] = candidates[best, channels]
    return chosen


def mean_tone(colors: NDArray[np.float32], alpha: NDArray[np.float32]) -> Tones:
    """Return the mean tone ``(4,)`` of colors ``(H, W, 4)`` where they are covered, ``(H, W)``."""
    return np.asarray(np.average(colors.reshape(-1, 4), axis=0, weights=alpha.ravel()), dtype=np.float64)


def retoned(colors: NDArray[np.float32], old: Tones, new: Tones, spread: float) -> NDArray[np.float32]:
    """Return colors ``(H, W, 4)`` moved from the mean tone ``old`` to ``new``, 0 to 255.

    Args:
        colors: what to change.
        old: the mean tone now, ``(4,)``.
        new: the mean tone to get, ``(4,)``.
        spread: the deviation from the mean that is kept at most, lest parts blend into the surroundings.
    """
    pattern = colors - old.astype(np.float32)
    pattern *= np.minimum(1, spread / (pattern.std(axis=(0, 1)) + 1e-6))
    return np.asarray(np.clip(pattern + new.astype(np.float32), 0, 255), dtype=np.float32)


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


LIGHT_CHANGE = Pair(rgb=0.15, tir=0.05)
"""The share by which brightness changes at most in the course of a video."""

LIGHT_AT_NIGHT = (0.04, 0.12)
NOISE_AT_NIGHT = 6.0
"""In full darkness: the share of the light that is left, from to, and the noise that is added, gray levels."""

GRAIN_MIDDLE, GRAIN_DEVIATION = 128, 32
"""Grain is unit noise held as 8-bit numbers: mean and deviation."""

SLACK = 48
"""Grain is this much larger than the image, so that each frame can take another part of it."""


@dataclass(frozen=True)
class Sensors:
    """An RGB and a TIR sensor.

    Args:
        gain: brightness of each modality in each frame, ``(T, 2)``.
        noise: deviation of each modality's noise in each frame, gray levels, ``(T, 2)``.
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
