"""Generates labeled video from one real pair: a region is the target, and each frame is another view of the scene.

Only the box in the reference frame defines the target. Box estimation therefore learns to use the reference box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.reference.synthetic.sequences import Aspect, GrayLevels, Length
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.image_pairs import Pairs
from mmdistill.toolkit.ranges import LOW_TO_HIGH, Range, check_fields
from mmdistill.toolkit.sequence import Boxes, FramePair, Image

RelativeSide = Annotated[float, Range(0, 1, above=True)]

NUM_TARGET_CANDIDATES = 8
"""Number of regions tried for each target; the one that differs most from its surroundings is used."""


@dataclass(frozen=True)
class SceneSettings:
    """Settings of the views of a scene; deviations are standard deviations.

    Attributes:
        length: number of frames.
        target_side: root of the target's area, relative to the image's shorter side.
        target_aspect: the target's width over its height.
        stretch: deviation of the logarithm of a view's width and height.
        gain: deviation of the logarithm of a view's contrast.
        shift: deviation of a view's brightness, gray levels.
        blur: maximum deviation of the Gaussian blur, pixels.
        noise: maximum deviation of the noise, gray levels.
    """

    length: Length = 8
    target_side: Annotated[tuple[RelativeSide, RelativeSide], LOW_TO_HIGH] = (0.08, 0.35)
    target_aspect: Annotated[tuple[Aspect, Aspect], LOW_TO_HIGH] = (0.33, 2.0)
    stretch: Annotated[float, Range(0, 2)] = 0.1
    gain: Annotated[float, Range(0, 5)] = 0.2
    shift: GrayLevels = 12.0
    blur: Annotated[float, Range(0, 100)] = 1.5
    noise: GrayLevels = 6.0

    def __post_init__(self) -> None:
        check_fields(self)


class SceneSequence:
    """Views of one aligned pair; a ``TrackingSequence``.

    Args:
        pairs: the pairs from which one is drawn.
        seed: one or several non-negative numbers; equal seeds give equal videos.
        settings: the settings.
        name: the sequence's name.
    """

    def __init__(self, pairs: Pairs, seed: int | Sequence[int], settings: SceneSettings, *, name: str) -> None:
        generator = np.random.default_rng(seed)
        self._pairs, self._index = pairs, int(generator.integers(len(pairs)))
        self._mirrored = bool(generator.random() < 0.5)
        self._seeds = generator.integers(2**31, size=settings.length)
        self._settings, self._name = settings, name
        image = self._image()
        self._stretches = np.exp(settings.stretch * generator.normal(size=(settings.length, 2)))
        self._sizes = np.rint(self._stretches * image.rgb.shape[1::-1]).astype(int)
        target = _choose_target(image, settings, generator)
        scales = self._sizes / image.rgb.shape[1::-1]
        self._boxes: Boxes = target * np.concatenate([scales, scales], axis=1)

    @property
    def name(self) -> str:
        """The sequence's name."""
        return self._name

    @property
    def boxes(self) -> Boxes:
        """The target's boxes ``(T, 4)``, ``x y w h`` in pixels."""
        return self._boxes

    @property
    def attributes(self) -> dict[str, NDArray[np.bool_]]:
        """Empty: scenes have no attributes."""
        return {}

    def __len__(self) -> int:
        return len(self._boxes)

    def frame(self, index: int) -> FramePair:
        """Return frame ``index`` (from 0); frames differ in size."""
        generator = np.random.default_rng(int(self._seeds[index]))
        width, height = (int(side) for side in self._sizes[index])
        views = (cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in self._image())
        rgb, tir = (_simulate_sensor(np.asarray(view, np.uint8), self._settings, generator) for view in views)
        return Pair(rgb, tir)

    def _image(self) -> Pair[Image]:
        step = -1 if self._mirrored else 1
        return Pair(*(np.ascontiguousarray(image[:, ::step]) for image in self._pairs.large_pair(self._index)))


def scene_sequences(
    pairs: Pairs, count: int, *, seed: int, settings: SceneSettings = SceneSettings()
) -> list[SceneSequence]:
    """Return ``count`` videos of scenes, each from a random pair.

    Args:
        pairs: the pairs.
        count: number of videos.
        seed: not negative; different seeds give different videos.
        settings: the settings.

    Raises:
        DataError: there are no pairs.
    """
    if count and not len(pairs):
        raise DataError(f"{pairs.title}: expected at least 1 pair, got none")
    return [SceneSequence(pairs, (seed, number), settings, name=f"scene{number:04d}") for number in range(count)]


def _choose_target(image: Pair[Image], settings: SceneSettings, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return a random box ``(4,)`` that differs from its surroundings, ``x y w h`` in pixels."""
    height, width = image.rgb.shape[:2]
    both = np.dstack([image.rgb, image.tir[..., :1]]).astype(np.float64)
    best, chosen = -1.0, np.array([0.0, 0.0, width, height])
    for _ in range(NUM_TARGET_CANDIDATES):
        side = generator.uniform(*settings.target_side) * min(width, height)
        aspect = np.exp(generator.uniform(*np.log(settings.target_aspect)))
        w, h = (max(int(side * factor), 6) for factor in (aspect**0.5, aspect**-0.5))
        w, h = min(w, width // 2), min(h, height // 2)
        left, top = int(generator.integers(width - w + 1)), int(generator.integers(height - h + 1))
        around = both[max(top - h // 2, 0) : top + h + h // 2, max(left - w // 2, 0) : left + w + w // 2]
        inside = both[top : top + h, left : left + w]
        difference = np.abs(inside.mean(axis=(0, 1)) - around.mean(axis=(0, 1))).sum() + inside.std(axis=(0, 1)).mean()
        if difference > best:
            best, chosen = float(difference), np.array([left, top, w, h], dtype=np.float64)
    return chosen


def _simulate_sensor(image: Image, settings: SceneSettings, generator: np.random.Generator) -> Image:
    """Return an image with random blur, contrast, brightness and noise."""
    sigma = generator.uniform(0, settings.blur)
    view = image.astype(np.float32) if sigma < 0.3 else cv2.GaussianBlur(image, (0, 0), sigma).astype(np.float32)
    mean = view.mean()
    view = (view - mean) * np.exp(settings.gain * generator.normal()) + mean + settings.shift * generator.normal()
    # All channels have the same noise, so that a thermal image stays gray.
    noise = generator.normal(scale=generator.uniform(0, settings.noise), size=view.shape[:2]).astype(np.float32)
    return np.asarray(np.clip(np.rint(view + noise[..., None]), 0, 255), dtype=np.uint8)
