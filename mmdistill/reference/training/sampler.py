"""DiMP's training samples: jittered reference and test crops of one sequence, with boxes and box proposals.

A sample depends on the seed and its number only, so that a resumed run sees the same samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.pair import Pair
from mmdistill.reference.crops import crop_geometry, cut
from mmdistill.reference.training.settings import Jitter, ProposalSettings, SampleSettings
from mmdistill.toolkit.boxes import centers, from_center, intersection_over_union, is_valid
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import FramePair, Image, TrackingSequence, fill_missing_modality


def propose(
    box: ArrayLike, settings: ProposalSettings, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return proposals ``(count, 4)``, ``x y w h``, and their IoU ``(count,)`` with the box ``(4,)``."""
    target = np.asarray(box, dtype=np.float64)
    deviation = generator.choice(settings.deviations, size=settings.count)
    proposals, overlap = np.empty((settings.count, 4)), np.zeros(settings.count)
    rejected = np.ones(settings.count, dtype=bool)
    while rejected.any():
        noise = deviation[rejected, None] * generator.normal(size=(int(rejected.sum()), 4))
        center = centers(target) + noise[:, :2] * np.sqrt(target[2] * target[3])
        proposals[rejected] = from_center(center, target[2:] * np.exp(noise[:, 2:]))
        overlap = intersection_over_union(proposals, target)
        rejected = overlap < settings.minimum_iou
        deviation *= 0.9  # so that the loop ends for any box
    return proposals, overlap


class Crops(NamedTuple):
    """Crops of one sequence, and the target's boxes.

    Attributes:
        images: N pairs of crops ``(size, size, 3)``.
        boxes: ``(N, 4)``, ``x y w h`` in crop pixels.
    """

    images: Pair[list[Image]]
    boxes: NDArray[np.float64]


class Sample(NamedTuple):
    """One sequence's part of a batch.

    Attributes:
        train: the reference crops.
        test: the test crops.
        proposals: ``(M, P, 4)``, ``x y w h`` in crop pixels.
        overlaps: ``(M, P)``, the proposals' IoU with the target.
    """

    train: Crops
    test: Crops
    proposals: NDArray[np.float64]
    overlaps: NDArray[np.float64]


class Samples(Protocol):
    """A source of numbered samples: the same number always gives the same sample."""

    def sample(self, number: int) -> Sample:
        """Return sample ``number``."""
        ...


class Sampler:
    """Draws samples from sequences.

    Args:
        sequences: each is drawn equally often.
        crop_size: side of the crops in pixels.
        search_area: the crop's side relative to the target's.
        settings: jitter, augmentation and proposals.
        seed: a sample depends on this seed and its number only.

    Raises:
        DataError: there are no sequences, or one has no labeled frame.
    """

    def __init__(
        self,
        sequences: Sequence[TrackingSequence],
        crop_size: int,
        search_area: float,
        settings: SampleSettings | None = None,
        *,
        seed: int = 0,
    ) -> None:
        if not sequences:
            raise DataError("training data: expected at least one sequence, got none")
        self.sequences, self.crop_size, self.search_area = sequences, crop_size, search_area
        self.settings, self.seed = settings or SampleSettings(), seed
        self._usable = [_usable_frames(sequence) for sequence in sequences]

    def sample(self, number: int) -> Sample:
        """Return sample ``number``."""
        generator = np.random.default_rng((self.seed, number))
        index = int(generator.integers(len(self.sequences)))
        sequence, settings = self.sequences[index], self.settings
        chosen = self._choose_frames(self._usable[index], generator)
        gray = generator.random() < settings.gray
        swapped = settings.swap > 0 and generator.random() < settings.swap
        missing = self._choose_missing(generator)
        frames = [
            (_without(_ordered(sequence.frame(frame), swapped), missing), sequence.boxes[frame]) for frame in chosen
        ]
        train = self._crops(frames[: settings.train_frames], settings.train_jitter, gray, generator)
        test = self._crops(frames[settings.train_frames :], settings.test_jitter, gray, generator)
        drawn = [propose(box, settings.proposals, generator) for box in test.boxes]
        proposals, overlaps = (np.stack(values) for values in zip(*drawn, strict=True))
        return Sample(train, test, proposals, overlaps)

    def _choose_missing(self, generator: np.random.Generator) -> str | None:
        """Return the modality that a sample lacks; None if it has both."""
        if not self.settings.missing or generator.random() >= self.settings.missing:
            return None
        return str(generator.choice(Pair._fields))

    def _choose_frames(self, usable: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        middle = generator.choice(usable)
        near = usable[abs(usable - middle) <= self.settings.gap]
        count = self.settings.train_frames + self.settings.test_frames
        chosen: NDArray[np.int64] = generator.choice(near, size=count, replace=len(near) < count)
        return chosen

    def _crops(
        self,
        frames: Sequence[tuple[FramePair, NDArray[np.float64]]],
        jitter: Jitter,
        gray: bool,
        generator: np.random.Generator,
    ) -> Crops:
        images: Pair[list[Image]] = Pair([], [])
        boxes = []
        for frame, box in frames:
            size = box[2:] * np.exp(jitter.scale * generator.normal(size=2))
            side = np.sqrt(size.prod())
            offset = jitter.center * side * (generator.random(2) - 0.5)
            geometry = crop_geometry(centers(box) + offset, self.search_area * side, self.crop_size)
            pair = fill_missing_modality(frame, where="training frame")
            crops = Pair(*(cut(image, geometry) for image in pair))
            if gray:
                crops = crops._replace(rgb=_gray(crops.rgb))
            rgb, tir = (self._augmented(crop, generator) for crop in crops)
            # A modality that replaces the other one is the same image twice, as in tracking.
            images.rgb.append(tir if frame.rgb is None else rgb)
            images.tir.append(rgb if frame.tir is None else tir)
            boxes.append(geometry.to_crop(box))
        return Crops(images, np.stack(boxes))

    def _augmented(self, crop: Image, generator: np.random.Generator) -> Image:
        """Return a crop with random brightness and contrast."""
        brightness = 1 + self.settings.brightness * (2 * generator.random() - 1)
        crop = np.asarray(cv2.convertScaleAbs(crop, alpha=brightness), dtype=np.uint8)
        return _contrasted(crop, self.settings.contrast, generator)


def _ordered(frame: FramePair, swapped: bool) -> FramePair:
    """Return a frame pair, if swapped with TIR as RGB and gray RGB as TIR."""
    if not swapped:
        return frame
    return Pair(frame.tir, None if frame.rgb is None else _gray(frame.rgb))


def _without(frame: FramePair, missing: str | None) -> FramePair:
    """Return a frame pair without a modality; as it is if it has no other."""
    if missing is None or frame.rgb is None or frame.tir is None:
        return frame
    return frame._replace(**{missing: None})


def _gray(image: Image) -> Image:
    return np.repeat(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)[..., None], 3, axis=2)


def _contrasted(crop: Image, deviation: float, generator: np.random.Generator) -> Image:
    """Return a crop with its contrast around its mean multiplied by a log-normal factor."""
    if not deviation:
        return crop
    factor, mean = float(np.exp(deviation * generator.normal())), float(crop.mean())
    levels = np.clip(np.rint((np.arange(256) - mean) * factor + mean), 0, 255).astype(np.uint8)
    return np.asarray(levels[crop])


def _usable_frames(sequence: TrackingSequence) -> NDArray[np.int64]:
    usable = np.flatnonzero(is_valid(sequence.boxes))
    if not len(usable):
        raise DataError(f"{sequence.name}: expected at least one frame with a finite box of positive size, got none")
    return usable
