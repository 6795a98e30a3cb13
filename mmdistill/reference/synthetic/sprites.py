"""Draws the moving objects of a synthetic video: target, distractors and occluders, with their exact boxes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.synthetic.events import Occlusion
from mmdistill.reference.synthetic.imaging import Tones
from mmdistill.reference.synthetic.motion import Poses
from mmdistill.reference.synthetic.textures import Foreground, TextureSource
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.sequence import Boxes

BORDER = 2
"""Transparent pixels around a sprite, so that its edge stays soft when it is scaled."""

NUM_TONE_CANDIDATES = 60
"""Number of random tones that are tried for a target."""

RGB, TIR = slice(0, 3), slice(3, 4)


@dataclass(frozen=True)
class Sprite:
    """An object with a soft mask.

    Args:
        colors: red, green, blue and temperature, ``(H, W, 4)`` float32, 0 to 255.
        alpha: coverage ``(H, W)`` float32, 0 to 1; its border is 0.
        hull: the convex hull ``(P, 2)`` of the pixels with a coverage of 0.5 or more, x, y of their corners.
    """

    colors: NDArray[np.float32]
    alpha: NDArray[np.float32]
    hull: Array

    @classmethod
    def from_foreground(cls, foreground: Foreground) -> Sprite:
        """Return the sprite of a foreground texture."""
        stacked = np.dstack([foreground.pair.rgb, foreground.pair.tir]).astype(np.float32)
        colors = cv2.copyMakeBorder(stacked, BORDER, BORDER, BORDER, BORDER, cv2.BORDER_REPLICATE)
        alpha = np.pad(foreground.mask / np.float32(255), BORDER)
        return cls(np.asarray(colors, np.float32), alpha, _hull(alpha >= 0.5))

    def maps(self, poses: Poses) -> Array:
        """Return the affine maps ``(T, 2, 3)`` from the sprite's pixels to the image's."""
        low, extent = self.hull.min(axis=0), np.ptp(self.hull, axis=0)
        linear = poses.linear() / extent
        shift = poses.center - linear @ (low + extent / 2)
        return np.concatenate([linear, shift[..., None]], axis=-1)

    def boxes(self, maps: Array) -> Boxes:
        """Return the boxes ``(T, 4)``, ``x y w h``, of the hull under the maps ``(T, 2, 3)``."""
        points = self.hull @ maps[:, :, :2].swapaxes(1, 2) + maps[:, None, :, 2]
        low, high = points.min(axis=1), points.max(axis=1)
        return np.concatenate([low, high - low], axis=-1)

    def draw(self, image: NDArray[np.uint8], affine: Array, box: Array, opacity: NDArray[np.float32]) -> None:
        """Draw the sprite on an image, in place.

        Args:
            image: ``(H, W, 4)``.
            affine: the map ``(2, 3)`` from the sprite's pixels to the image's.
            box: the sprite's box ``(4,)`` in the image.
            opacity: of each channel, ``(4,)``, 0 to 1.
        """
        left, top = (int(edge) - BORDER for edge in np.floor(box[:2]))
        right, bottom = (int(edge) + BORDER for edge in np.ceil(box[:2] + box[2:]))
        left, top = max(left, 0), max(top, 0)
        right, bottom = min(right, image.shape[1]), min(bottom, image.shape[0])
        if right <= left or bottom <= top:
            return
        # These coordinates start at the corner of the first pixel, OpenCV's at its center.
        warp = affine.copy()
        warp[:, 2] += affine[:, :2] @ (0.5, 0.5) - (left + 0.5, top + 0.5)
        size = (right - left, bottom - top)
        colors = cv2.warpAffine(self.colors, warp, size, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpAffine(self.alpha, warp, size)
        under = image[top:bottom, left:right]
        under[:] = under + (colors - under) * (alpha[..., None] * opacity)


def _hull(inside: NDArray[np.bool_]) -> Array:
    """Return the convex hull ``(P, 2)`` of the corners of the pixels in a mask ``(H, W)``."""
    rows = np.flatnonzero(inside.any(axis=1))
    # The first and last pixel of each row are sufficient.
    left, right = inside[rows].argmax(axis=1), inside.shape[1] - inside[rows, ::-1].argmax(axis=1)
    corners = [np.stack([x, rows + below], axis=1) for x in (left, right) for below in (0, 1)]
    hull = cv2.convexHull(np.concatenate(corners).astype(np.int32))
    return np.asarray(hull.reshape(-1, 2), dtype=np.float64)


@dataclass(frozen=True)
class MovingSprite:
    """A sprite with its trajectory.

    Args:
        sprite: the sprite.
        maps: affine maps from the sprite's pixels to the image's, ``(T, 2, 3)``.
        boxes: the sprite's boxes, ``x y w h``, ``(T, 4)``.
    """

    sprite: Sprite
    maps: Array
    boxes: Boxes

    @classmethod
    def along(cls, sprite: Sprite, poses: Poses) -> MovingSprite:
        """Return a sprite that moves along ``poses``."""
        maps = sprite.maps(poses)
        return cls(sprite, maps, sprite.boxes(maps))

    def draw(self, image: NDArray[np.uint8], index: int, opacity: NDArray[np.float32]) -> None:
        """Draw frame ``index`` on an image ``(H, W, 4)``, in place; ``opacity`` ``(4,)`` is per channel."""
        self.sprite.draw(image, self.maps[index], self.boxes[index], opacity)


def make_sprite(
    generator: np.random.Generator, textures: TextureSource, size: tuple[float, float], max_scale: float = 1.0
) -> Sprite:
    """Return a random sprite with enough detail to be drawn at ``max_scale`` times its mean ``size``."""
    width, height = (max(round(side * max_scale), 4) for side in size)
    return Sprite.from_foreground(textures.foreground(generator, (width, height)))


def make_distractor(generator: np.random.Generator, sprite: Sprite) -> Sprite:
    """Return a slightly tinted copy of a sprite; it may differ clearly in one modality."""
    change = generator.normal(0, 5, 4)
    large_change = generator.choice([-1, 1], 4) * generator.uniform(50, 100, 4)
    channels = (slice(0, 0), RGB, TIR)[generator.integers(3)]
    change[channels] += large_change[channels]
    return replace(sprite, colors=np.clip(sprite.colors + change.astype(np.float32), 0, 255))


def make_occluder(
    generator: np.random.Generator, textures: TextureSource, occlusion: Occlusion, target: Poses, time: Array
) -> MovingSprite:
    """Return a random object that passes in front of the target; it moves through the image in all frames.

    Args:
        generator: the source of randomness.
        textures: the source of the object's texture.
        occlusion: time and direction.
        target: the target's poses.
        time: the frames, ``(T,)``.
    """
    mean_size = target.size.mean(axis=0)
    size = mean_size * generator.uniform(1.0, 1.5, 2)
    distance = np.sqrt(mean_size.prod()) + np.sqrt(size.prod())
    direction = np.array([np.cos(occlusion.direction), np.sin(occlusion.direction)])
    offset = (time - occlusion.middle)[:, None] * (distance / occlusion.duration * direction)
    poses = Poses(target.center + offset, np.tile(size, (len(time), 1)), np.zeros(len(time)))
    return MovingSprite.along(make_sprite(generator, textures, (size[0], size[1])), poses)


def contrasting_tone(generator: np.random.Generator, tone: Tones, surroundings: Tones, min_distance: float) -> Tones:
    """Return a tone ``(4,)`` that differs from all surroundings in each modality.

    For each modality, ``tone`` and random tones are tried. Of those with the minimum distance from all surroundings,
    the one nearest to ``tone`` is chosen; if there is none, the one farthest from the surroundings.

    Args:
        generator: the source of randomness.
        tone: the original tone, ``(4,)``.
        surroundings: the tones of the background, ``(N, 4)``.
        min_distance: Euclidean distance of colors, or of temperatures.
    """
    candidates = np.concatenate([tone[None], generator.uniform(10, 245, (NUM_TONE_CANDIDATES, 4))])
    chosen = np.array(tone, dtype=np.float64)
    for channels in (RGB, TIR):
        differences = candidates[:, None, channels] - surroundings[None, :, channels]
        nearest = np.linalg.norm(differences, axis=-1).min(axis=1)
        change = np.linalg.norm(candidates[:, channels] - tone[channels], axis=-1)
        enough = nearest >= min_distance
        best = np.argmin(np.where(enough, change, np.inf)) if enough.any() else np.argmax(nearest)
        chosen[channels] = candidates[best, channels]
    return chosen


def mean_tone(sprite: Sprite) -> Tones:
    """Return the mean tone ``(4,)`` of a sprite, weighted by its coverage."""
    return np.asarray(np.average(sprite.colors.reshape(-1, 4), axis=0, weights=sprite.alpha.ravel()), dtype=np.float64)


def change_tone(sprite: Sprite, old: Tones, new: Tones, max_deviation: float) -> Sprite:
    """Return a sprite with its mean tone moved from ``old`` to ``new``.

    Args:
        sprite: the sprite.
        old: its mean tone, ``(4,)``.
        new: the new mean tone, ``(4,)``.
        max_deviation: limit of the standard deviation of each channel, so that no part blends into the surroundings.
    """
    pattern = sprite.colors - old.astype(np.float32)
    pattern *= np.minimum(1, max_deviation / (pattern.std(axis=(0, 1)) + 1e-6))
    return replace(sprite, colors=np.asarray(np.clip(pattern + new.astype(np.float32), 0, 255), dtype=np.float32))
