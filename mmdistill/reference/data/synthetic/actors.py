"""What moves through a synthetic video: the target, its look-alikes, and what passes in front of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.data.sequence import Boxes
from mmdistill.reference.data.synthetic.events import Passage
from mmdistill.reference.data.synthetic.motion import Array, Poses, roam
from mmdistill.reference.data.synthetic.settings import SyntheticSettings
from mmdistill.reference.data.synthetic.sprites import Sprite
from mmdistill.reference.data.synthetic.textures import TextureSource
from mmdistill.reference.data.synthetic.tones import RGB, TIR

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
    close = [float((np.linalg.norm(way.centre - target.centre, axis=1) < reach).mean()) for way in ways]
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
    return replace(sprite, colours=np.clip(sprite.colours + change.astype(np.float32), 0, 255))


def passing(
    generator: np.random.Generator, textures: TextureSource, passage: Passage, target: Poses, time: Array
) -> Actor:
    """Return what passes in front of the target in ``passage``; before and after, it moves on through the image."""
    mean_size = target.size.mean(axis=0)
    size = mean_size * generator.uniform(1.0, 1.5, 2)
    way = np.sqrt(mean_size.prod()) + np.sqrt(size.prod())
    direction = np.array([np.cos(passage.direction), np.sin(passage.direction)])
    offset = (time - passage.middle)[:, None] * (way / passage.duration * direction)
    poses = Poses(target.centre + offset, np.tile(size, (len(time), 1)), np.zeros(len(time)))
    return Actor.along(new_sprite(generator, textures, (size[0], size[1])), poses)
