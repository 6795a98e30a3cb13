"""Synthetic RGB-T video: a seeded composition of a background, a target, look-alikes and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.synthetic.actors import Actor, Sprite, apart, look_alike, new_sprite, passing, roaming
from mmdistill.reference.synthetic.cameras import Camera, Sensors, mean_tone, retoned, standing_out
from mmdistill.reference.synthetic.events import attribute_flags, schedule
from mmdistill.reference.synthetic.motion import Poses
from mmdistill.reference.synthetic.settings import SyntheticSettings
from mmdistill.reference.synthetic.textures import ProceduralTextures, TextureSource
from mmdistill.toolkit.sequence import Boxes, FramePair

CONTRAST = 60.0
"""How far the target's mean tone is from its surroundings in each modality, where a tone allows it."""

PATTERN = 32.0
"""The deviation of the target's pattern from its mean tone at most."""

CROSSED = 0.97
"""How much of the target's own temperature is lost in full thermal crossover."""

OPAQUE = np.ones(4, np.float32)


class SyntheticSequence:
    """A video with one target, rendered when it is asked for; a ``TrackingSequence``.

    Any frame can be asked for at any time, and is always the same. Boxes are those of the target's mask, whole
    even where it is occluded or leaves the image.

    Args:
        settings: what the video is like.
        textures: what background, target and occluders look like.
        seed: a number or several, not negative; the same ones give the same video.
        name: the sequence's name.
    """

    def __init__(
        self,
        settings: SyntheticSettings,
        textures: TextureSource,
        seed: int | Sequence[int],
        *,
        name: str = "synthetic",
    ) -> None:
        generator = np.random.default_rng(seed)
        time = np.arange(settings.length, dtype=np.float64)
        self.settings = settings
        self._name = name
        self._events = schedule(
            generator,
            settings.length,
            stretch=settings.event_stretch,
            darkness=settings.low_illumination,
            crossover=settings.thermal_crossover,
            occlusion=settings.occlusion,
        )
        self._camera = Camera.random(generator, textures, time, settings.size, settings.camera_motion)
        self._sensors = Sensors.random(generator, self._events.darkness, settings.size, settings.noise)

        size = _target_size(generator, settings)
        poses = roaming(generator, settings, time, size)
        sprite = self._visible(generator, new_sprite(generator, textures, size, settings.scale_change), poses)
        self._target = Actor.along(sprite, poses)
        self._distractors = []
        for _ in range(generator.integers(settings.distractors[0], settings.distractors[1] + 1)):
            way = apart(generator, settings, time, poses)
            self._distractors.append(Actor.along(look_alike(generator, sprite), way))
        self._occluders = [passing(generator, textures, passage, poses, time) for passage in self._events.passages]
        self._attributes = attribute_flags(
            self._events,
            self._target.boxes,
            [actor.boxes for actor in self._distractors],
            [actor.boxes for actor in self._occluders],
        )

    @property
    def name(self) -> str:
        """The name given."""
        return self._name

    @property
    def boxes(self) -> Boxes:
        """The target's boxes ``(T, 4)``, ``x y w h`` in pixels."""
        return self._target.boxes

    @property
    def attributes(self) -> dict[str, NDArray[np.bool_]]:
        """Six attributes, a flag per frame each; see ``attribute_flags``."""
        return self._attributes

    def __len__(self) -> int:
        return self.settings.length

    def frame(self, index: int) -> FramePair:
        """Render frame ``index`` (from 0), both modalities."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: frame {index} of {len(self)}")
        scene = self._camera.view(index)
        for actor in self._distractors:
            actor.draw(scene, index, OPAQUE)
        warmth = 1 - CROSSED * self._events.crossover[index]
        self._target.draw(scene, index, np.array([1, 1, 1, warmth], np.float32))
        for actor in self._occluders:
            actor.draw(scene, index, OPAQUE)
        return self._sensors.expose(scene, index)

    def _visible(self, generator: np.random.Generator, sprite: Sprite, poses: Poses) -> Sprite:
        """Return the sprite with a tone that stands out from the background all along its way."""
        extent = 2 * np.sqrt(poses.size.prod(axis=1).mean())
        surroundings = self._camera.surroundings(poses.center, extent)
        tone = mean_tone(sprite.colors, sprite.alpha)
        visible = standing_out(generator, tone, surroundings, CONTRAST)
        return replace(sprite, colors=retoned(sprite.colors, tone, visible, PATTERN))


def synthetic_sequences(
    count: int,
    *,
    seed: int,
    settings: SyntheticSettings | None = None,
    textures: TextureSource | None = None,
) -> list[SyntheticSequence]:
    """Return ``count`` videos; the k-th depends on ``seed`` and k alone, however many there are.

    Args:
        count: how many.
        seed: not negative; different seeds give different videos.
        settings: what the videos are like; by default ``SyntheticSettings()``.
        textures: what they are made of; by default ``ProceduralTextures()``.
    """
    settings = settings or SyntheticSettings()
    textures = textures or ProceduralTextures()
    return [
        SyntheticSequence(settings, textures, (seed, number), name=f"synthetic_{number:04d}") for number in range(count)
    ]


def _target_size(generator: np.random.Generator, settings: SyntheticSettings) -> tuple[float, float]:
    """Return a random mean width and height, pixels."""
    side = generator.uniform(*settings.target_size)
    aspect = np.exp(generator.uniform(*np.log(settings.target_aspect)))
    return side * np.sqrt(aspect), side / np.sqrt(aspect)
