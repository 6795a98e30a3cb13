"""Composes synthetic RGB-T video from a background, a target, distractors, occluders and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.synthetic.events import attribute_flags, random_timeline
from mmdistill.reference.synthetic.imaging import Sensors, VirtualCamera
from mmdistill.reference.synthetic.motion import Poses, random_trajectory
from mmdistill.reference.synthetic.sprites import (
    MovingSprite,
    Sprite,
    change_tone,
    contrasting_tone,
    make_distractor,
    make_occluder,
    make_sprite,
    mean_tone,
)
from mmdistill.reference.synthetic.textures import ProceduralTextures, TextureSource
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.ranges import LOW_TO_HIGH, Probability, Range, RangeError, check_fields
from mmdistill.toolkit.sequence import Boxes, FramePair

ImageSide = Annotated[int, Range(8, 16_384)]
Length = Annotated[int, Range(1, 10**6)]
TargetSide = Annotated[float, Range(4, 10_000)]
Aspect = Annotated[float, Range(0, 100, above=True)]
Speed = Annotated[float, Range(0, 1000, above=True)]
Distractors = Annotated[int, Range(0, 1000)]
GrayLevels = Annotated[float, Range(0, 255)]

TARGET_CONTRAST = 60.0
"""Minimum distance of the target's mean tone from its surroundings in each modality, if a tone allows it."""

MAX_PATTERN_DEVIATION = 32.0
"""Maximum standard deviation of the target's colors."""

MAX_CROSSOVER = 0.97
"""Share of the target's own temperature that is lost in full thermal crossover."""

MAX_ANGLE = 0.2
"""Maximum rotation of target and distractors, radians."""

NUM_TRAJECTORY_CANDIDATES = 3
"""Number of trajectories tried for a distractor."""

OPAQUE = np.ones(4, np.float32)


@dataclass(frozen=True)
class SyntheticSettings:
    """Settings of synthetic video; each video draws its values from the ranges given as pairs.

    Args:
        size: width and height in pixels.
        length: number of frames.
        target_size: square root of the target's mean area, pixels.
        target_aspect: the target's mean width over its height.
        scale_change: maximum factor between the target's size and its mean, up and down.
        speed: root mean square speed of target and distractors, pixels per frame.
        distractors: number of distractors, which look like the target.
        event_stretch: frames of a stretch with at most one event.
        low_illumination: probability of darkness in a stretch.
        thermal_crossover: probability that the target takes the temperature of its surroundings in a stretch.
        occlusion: probability of an occlusion in a stretch.
        camera_motion: maximum motion of the camera from its mean view, pixels.
        noise: standard deviation of the sensors' noise, gray levels.

    Raises:
        RangeError: a setting is out of range.
    """

    size: tuple[ImageSide, ImageSide] = (240, 180)
    length: Length = 100
    target_size: Annotated[tuple[TargetSide, TargetSide], LOW_TO_HIGH] = (20.0, 44.0)
    target_aspect: Annotated[tuple[Aspect, Aspect], LOW_TO_HIGH] = (0.5, 2.0)
    scale_change: Annotated[float, Range(1, 100)] = 1.6
    speed: Annotated[tuple[Speed, Speed], LOW_TO_HIGH] = (0.5, 3.5)
    distractors: Annotated[tuple[Distractors, Distractors], LOW_TO_HIGH] = (0, 3)
    event_stretch: Annotated[int, Range(1, 10**6)] = 30
    low_illumination: Probability = 0.3
    thermal_crossover: Probability = 0.3
    occlusion: Probability = 0.2
    camera_motion: Annotated[float, Range(0, 10_000)] = 12.0
    noise: Annotated[tuple[GrayLevels, GrayLevels], LOW_TO_HIGH] = (1.5, 6.0)

    def __post_init__(self) -> None:
        check_fields(self)
        largest = self.target_size[1] * self.scale_change
        if min(self.size) < largest:
            expected = f"an image larger than the largest target, {largest:g} pixels"
            raise RangeError("SyntheticSettings.size", expected, self.size)
        if self.low_illumination + self.thermal_crossover + self.occlusion > 1:
            expected = "probabilities of low_illumination, thermal_crossover and occlusion that sum to at most 1"
            raise RangeError("SyntheticSettings.occlusion", expected, self.occlusion)


class SyntheticSequence:
    """A video with one target, rendered on demand; a ``TrackingSequence``.

    Frames can be rendered in any order with the same result. Boxes contain the target's whole mask, even if it is
    occluded or partly outside the image.

    Args:
        settings: the settings.
        textures: the source of background, target and occluders.
        seed: one or several non-negative numbers; equal seeds give equal videos.
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
        self._timeline = random_timeline(
            generator,
            settings.length,
            stretch=settings.event_stretch,
            darkness=settings.low_illumination,
            crossover=settings.thermal_crossover,
            occlusion=settings.occlusion,
        )
        self._camera = VirtualCamera.random(generator, textures, time, settings.size, settings.camera_motion)
        self._sensors = Sensors.random(generator, self._timeline.darkness, settings.size, settings.noise)

        size = _random_target_size(generator, settings)
        poses = _random_poses(generator, settings, time, size)
        sprite = make_sprite(generator, textures, size, settings.scale_change)
        sprite = self._with_contrast(generator, sprite, poses)
        self._target = MovingSprite.along(sprite, poses)
        self._distractors = []
        for _ in range(generator.integers(settings.distractors[0], settings.distractors[1] + 1)):
            distractor_poses = _distant_poses(generator, settings, time, poses)
            self._distractors.append(MovingSprite.along(make_distractor(generator, sprite), distractor_poses))
        self._occluders = [
            make_occluder(generator, textures, occlusion, poses, time) for occlusion in self._timeline.occlusions
        ]
        self._attributes = attribute_flags(
            self._timeline,
            self._target.boxes,
            [distractor.boxes for distractor in self._distractors],
            [occluder.boxes for occluder in self._occluders],
        )

    @property
    def name(self) -> str:
        """The sequence's name."""
        return self._name

    @property
    def boxes(self) -> Boxes:
        """The target's boxes ``(T, 4)``, ``x y w h`` in pixels."""
        return self._target.boxes

    @property
    def attributes(self) -> dict[str, NDArray[np.bool_]]:
        """The flags ``(T,)`` of six attributes; see ``attribute_flags``."""
        return self._attributes

    def __len__(self) -> int:
        return self.settings.length

    def frame(self, index: int) -> FramePair:
        """Render frame ``index`` (from 0), both modalities."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: frame {index} of {len(self)}")
        scene = self._camera.view(index)
        for distractor in self._distractors:
            distractor.draw(scene, index, OPAQUE)
        warmth = 1 - MAX_CROSSOVER * self._timeline.crossover[index]
        self._target.draw(scene, index, np.array([1, 1, 1, warmth], np.float32))
        for occluder in self._occluders:
            occluder.draw(scene, index, OPAQUE)
        return self._sensors.expose(scene, index)

    def _with_contrast(self, generator: np.random.Generator, sprite: Sprite, poses: Poses) -> Sprite:
        """Return the sprite with a tone that contrasts with the background along its trajectory."""
        extent = 2 * np.sqrt(poses.size.prod(axis=1).mean())
        surroundings = self._camera.surroundings(poses.center, extent)
        tone = mean_tone(sprite)
        new_tone = contrasting_tone(generator, tone, surroundings, TARGET_CONTRAST)
        return change_tone(sprite, tone, new_tone, MAX_PATTERN_DEVIATION)


def synthetic_sequences(
    count: int,
    *,
    seed: int,
    settings: SyntheticSettings | None = None,
    textures: TextureSource | None = None,
) -> list[SyntheticSequence]:
    """Return ``count`` videos; each depends on ``seed`` and its index only, not on ``count``.

    Args:
        count: number of videos.
        seed: not negative; different seeds give different videos.
        settings: by default ``SyntheticSettings()``.
        textures: by default ``ProceduralTextures()``.
    """
    settings = settings or SyntheticSettings()
    textures = textures or ProceduralTextures()
    return [
        SyntheticSequence(settings, textures, (seed, number), name=f"synthetic_{number:04d}") for number in range(count)
    ]


def _random_target_size(generator: np.random.Generator, settings: SyntheticSettings) -> tuple[float, float]:
    """Return a random mean width and height, pixels."""
    side = generator.uniform(*settings.target_size)
    aspect = np.exp(generator.uniform(*np.log(settings.target_aspect)))
    return side * np.sqrt(aspect), side / np.sqrt(aspect)


def _random_poses(
    generator: np.random.Generator, settings: SyntheticSettings, time: Array, size: tuple[float, float]
) -> Poses:
    """Return random poses of an object of mean ``size``, with speed and scale change from the settings."""
    return random_trajectory(
        generator,
        time,
        settings.size,
        size=size,
        speed=generator.uniform(*settings.speed),
        scale_change=settings.scale_change ** generator.uniform(0, 1),
        max_angle=MAX_ANGLE,
    )


def _distant_poses(generator: np.random.Generator, settings: SyntheticSettings, time: Array, target: Poses) -> Poses:
    """Return poses of an object of about the target's size; of several, those that are least often close to it."""
    size = target.size.mean(axis=0) * generator.uniform(0.8, 1.2, 2)
    candidates = [
        _random_poses(generator, settings, time, (size[0], size[1])) for _ in range(NUM_TRAJECTORY_CANDIDATES)
    ]
    limit = np.linalg.norm(target.size, axis=1)
    close = [float((np.linalg.norm(poses.center - target.center, axis=1) < limit).mean()) for poses in candidates]
    return candidates[int(np.argmin(close))]
