"""What moves through a synthetic video: the target, its look-alikes, and what passes in front of it.

Sprites: cut-outs that can be drawn at any pose, and their exact boxes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.synthetic.cameras import RGB, TIR
from mmdistill.reference.synthetic.events import Passage
from mmdistill.reference.synthetic.motion import Array, Poses, roam
from mmdistill.reference.synthetic.settings import SyntheticSettings
from mmdistill.reference.synthetic.textures import Cutout, TextureSource
from mmdistill.toolkit.sequence import Boxes

BORDER = 2
"""Transparent pixels around a sprite, so that its edge stays soft when it is scaled."""


@dataclass(frozen=True)
class Sprite:
    """A thing to draw.

    Args:
        colors: red, green, blue and temperature, ``(H, W, 4)`` float32, 0 to 255.
        alpha: coverage ``(H, W)`` float32, 0 to 1; its border is 0.
        hull: the convex hull ``(P, 2)`` of the pixels that are half covered or more, x, y of their corners.
    """

    colors: NDArray[np.float32]
    alpha: NDArray[np.float32]
    hull: Array

    @classmethod
    def of(cls, cutout: Cutout) -> Sprite:
        """Return the sprite of a cut-out."""
        stacked = np.dstack([cutout.pair.rgb, cutout.pair.tir]).astype(np.float32)
        colors = cv2.copyMakeBorder(stacked, BORDER, BORDER, BORDER, BORDER, cv2.BORDER_REPLICATE)
        alpha = np.pad(cutout.mask / np.float32(255), BORDER)
        return cls(np.asarray(colors, np.float32), alpha, _hull(alpha >= 0.5))

    def maps(self, poses: Poses) -> Array:
        """Return the affine maps ``(T, 2, 3)`` from the sprite's pixels to the image's."""
        low, extent = self.hull.min(axis=0), np.ptp(self.hull, axis=0)
        linear = poses.linear() / extent
        shift = poses.center - linear @ (low + extent / 2)
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
        # Our coordinates count from the corner of the first pixel, OpenCV's from its center.
        warp = affine.copy()
        warp[:, 2] += affine[:, :2] @ (0.5, 0.5) - (left + 0.5, top + 0.5)
        size = (right - left, bottom - top)
        colors = cv2.warpAffine(self.colors, warp, size, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpAffine(self.alpha, warp, size)
        under = image[top:bottom, left:right]
        under[:] = under + (colors - under) * (alpha[..., None] * opacity)


def _hull(inside: NDArray[np.bool_]) -> Array:
    """Return the convex hull ``(P, 2)`` of the corners of the pixels that are ``inside`` ``(H, W)``."""
    rows = np.flatnonzero(inside.any(axis=1))
    # Each row's first and last pixel are enough.
    left, right = inside[rows].argmax(axis=1), inside.shape[1] - inside[rows, ::-1].argmax(axis=1)
    corners = [np.stack([x, rows + below], axis=1) for x in (left, right) for below in (0, 1)]
    hull = cv2.convexHull(np.concatenate(corners).astype(np.int32))
    return np.asarray(hull.reshape(-1, 2), dtype=np.float64)


SWAY = 0.2
"""The angle by which things sway at most, radians."""


@dataclass(frozen=True)
class Actor:
    """A sprite and its way through the video.

    Args:
        sprite: its looks.
        maps: for each frame the affine map from the sprite's pixels to the image's, ``(T, 2, 3)``.
        boxes: its boxes, ``x y w h``, ``(T, 4)``.
    """

    sprite: Sprite
    maps: Array
    boxes: Boxes

    @classmethod
    def along(cls, sprite: Sprite, poses: Poses) -> Actor:
        """Return the actor that a sprite is on its way through ``poses``."""
        maps = sprite.maps(poses)
        return cls(sprite, maps, sprite.boxes(maps))

    def draw(self, image: NDArray[np.uint8], index: int, opacity: NDArray[np.float32]) -> None:
        """Draw frame ``index`` onto an image ``(H, W, 4)``, in place; ``opacity`` ``(4,)`` is per channel."""
        self.sprite.draw(image, self.maps[index], self.boxes[index], opacity)


def roaming(
    generator: np.random.Generator, settings: SyntheticSettings, time: Array, size: tuple[float, float]
) -> Poses:
    """Return the poses of a thing of mean ``size`` that roams the image at a random speed."""
    return roam(
        generator,
        time,
        settings.size,
        size=size,
        speed=generator.uniform(*settings.speed),
        scale_change=settings.scale_change ** generator.uniform(0, 1),
        turn=SWAY,
    )


def apart(generator: np.random.Generator, settings: SyntheticSettings, time: Array, target: Poses) -> Poses:
    """Return the poses of a thing of about the target's size: of three ways, the one least close to the target's."""
    size = target.size.mean(axis=0) * generator.uniform(0.8, 1.2, 2)
    ways = [roaming(generator, settings, time, (size[0], size[1])) for _ in range(3)]
    reach = np.linalg.norm(target.size, axis=1)
    close = [float((np.linalg.norm(way.center - target.center, axis=1) < reach).mean()) for way in ways]
    return ways[int(np.argmin(close))]


def new_sprite(
    generator: np.random.Generator, textures: TextureSource, size: tuple[float, float], largest: float = 1.0
) -> Sprite:
    """Return a new sprite fine enough to be drawn ``largest`` times its mean ``size``."""
    width, height = (max(round(side * largest), 4) for side in size)
    return Sprite.of(textures.cutout(generator, (width, height)))


def look_alike(generator: np.random.Generator, sprite: Sprite) -> Sprite:
    """Return a slightly tinted copy; in one modality it may differ clearly."""
    change = generator.normal(0, 5, 4)
    clearly = generator.choice([-1, 1], 4) * generator.uniform(50, 100, 4)
    differs = (slice(0, 0), RGB, TIR)[generator.integers(3)]
    change[differs] += clearly[differs]
    return replace(sprite, colors=np.clip(sprite.colors + change.astype(np.float32), 0, 255))


def passing(
    generator: np.random.Generator, textures: TextureSource, passage: Passage, target: Poses, time: Array
) -> Actor:
    """Return what passes in front of the target in ``passage``; before and after, it moves on through the image."""
    mean_size = target.size.mean(axis=0)
    size = mean_size * generator.uniform(1.0, 1.5, 2)
    way = np.sqrt(mean_size.prod()) + np.sqrt(size.prod())
    direction = np.array([np.cos(passage.direction), np.sin(passage.direction)])
    offset = (time - passage.middle)[:, None] * (way / passage.duration * direction)
    poses = Poses(target.center + offset, np.tile(size, (len(time), 1)), np.zeros(len(time)))
    return Actor.along(new_sprite(generator, textures, (size[0], size[1])), poses)
