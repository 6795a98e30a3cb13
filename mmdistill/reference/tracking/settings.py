"""The constants of online tracking.

The defaults are those of the published DiMP with ResNet-18 and 50 (arXiv 1904.07220). Refinement, and
``PUBLISHED_ATOM``, are ATOM's (arXiv 1811.07628).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.tracking.augmentation import TRANSFORMS, Share, Transform
from mmdistill.toolkit.ranges import PositiveInt, Range, RangeError, check_fields

Iterations = Annotated[int, Range(0, 1000)]


@dataclass(frozen=True)
class FirstFrameSettings:
    """How the target model learns from the first frame (DiMP, arXiv 1904.07220).

    Attributes:
        transforms: augmentations besides the identity, which always comes first.
        patch_factor: side of the transformed patch, relative to the crop's side.
        dropouts: number of further samples: the identity's features with channel dropout.
        dropout: probability of dropping a channel.
        iterations: steps of the filter optimizer.
    """

    transforms: tuple[Transform, ...] = TRANSFORMS
    patch_factor: Annotated[int, Range(1, 10)] = 2
    dropouts: Annotated[int, Range(0, 1000)] = 2
    dropout: Annotated[float, Range(0, 0.99)] = 0.2
    iterations: Iterations = 10

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def samples(self) -> int:
        """The number of samples of the first frame."""
        return 1 + len(self.transforms) + self.dropouts


@dataclass(frozen=True)
class LocalizationSettings:
    """Thresholds of localization, with hard negatives as in ATOM (arXiv 1811.07628, section 3.3).

    Scores are on the scale of the label, 0 to 1.

    Attributes:
        not_found: a maximum below this score means that the target is not found.
        neighborhood: side of the suppressed rectangle around the maximum, relative to the target's side.
        rival: a second maximum above this fraction of the first may be the target.
        distractor: a second maximum above this fraction of the first, and above ``not_found``, is a distractor.
        reach: limit of the target's displacement, relative to half the score map's side.
    """

    not_found: Annotated[float, Range(-100, 100)] = 0.25
    neighborhood: Annotated[float, Range(0, 100)] = 2.2
    rival: Annotated[float, Range(0, 100)] = 0.8
    distractor: Annotated[float, Range(0, 100)] = 0.5
    reach: Annotated[float, Range(0, 100)] = 0.8

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class RefinementSettings:
    """Box refinement by gradient ascent on the predicted IoU (ATOM, arXiv 1811.07628, section 3.3).

    Attributes:
        random_boxes: number of jittered proposals besides the moved box.
        center_jitter: limit of the jitter of their centers along either axis, relative to the root of the box's area.
        size_jitter: limit of the jitter of their sides, relative to the root of the box's area.
        minimum_start_side: least side of a proposal, relative to the box's shorter side.
        steps: gradient steps.
        step_length: factor of the gradient, relative to the box's sides.
        minimum_side: least side of a refined box, crop pixels.
        maximum_aspect: limit of the ratio of a box's sides; boxes above it are dropped.
        averaged: number of best boxes that are averaged.
    """

    random_boxes: Annotated[int, Range(0, 10_000)] = 9
    center_jitter: Annotated[float, Range(0, 10)] = 0.05
    size_jitter: Annotated[float, Range(0, 10)] = 0.25
    minimum_start_side: Annotated[float, Range(0, 1, above=True)] = 1 / 3
    steps: Iterations = 5
    step_length: Annotated[float, Range(0, 1000)] = 1.0
    minimum_side: Annotated[float, Range(0, 10_000, above=True)] = 1.0
    maximum_aspect: Annotated[float, Range(1, 10**6)] = 6.0
    averaged: Annotated[int, Range(1, 10_000)] = 3

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class LearningSettings:
    """How the target model learns online (DiMP, arXiv 1904.07220).

    Attributes:
        memory: number of samples kept per video.
        rate: learning rate: the weight of a new sample.
        hard_negative_rate: learning rate of a hard negative.
        initial_share: least total weight of the first frame's samples.
        interval: frames from one optimization to the next.
        iterations: optimizer steps each time.
        hard_negative_iterations: optimizer steps right after a hard negative.
    """

    memory: Annotated[int, Range(1, 10_000)] = 50
    rate: Share = 0.01
    hard_negative_rate: Share = 0.02
    initial_share: Share = 0.25
    interval: PositiveInt = 20
    iterations: Iterations = 2
    hard_negative_iterations: Iterations = 1

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class TrackingSettings:
    """The constants of online tracking.

    Attributes:
        first_frame: see ``FirstFrameSettings``.
        localization: see ``LocalizationSettings``.
        refinement: see ``RefinementSettings``.
        learning: see ``LearningSettings``.
        minimum_side: lower limit of the scale, as the target's side at that scale, image pixels.
        inside_share: least fraction of the target that stays inside the image along either axis.

    Raises:
        RangeError: a value out of its range, or a memory without room for samples after the first frame's.
    """

    first_frame: FirstFrameSettings = field(default_factory=FirstFrameSettings)
    localization: LocalizationSettings = field(default_factory=LocalizationSettings)
    refinement: RefinementSettings = field(default_factory=RefinementSettings)
    learning: LearningSettings = field(default_factory=LearningSettings)
    minimum_side: Annotated[float, Range(0, 10_000, above=True)] = 10.0
    inside_share: Share = 0.2

    def __post_init__(self) -> None:
        check_fields(self)
        initial, memory = self.first_frame.samples, self.learning.memory
        if memory <= initial:
            raise RangeError(
                "TrackingSettings.learning.memory", f"more than the first frame's {initial} samples", memory
            )


PUBLISHED = TrackingSettings()
"""DiMP's settings."""

PUBLISHED_ATOM = TrackingSettings(
    first_frame=FirstFrameSettings(iterations=6),
    learning=LearningSettings(memory=250, interval=10, iterations=1),
)
"""ATOM's settings. Iterations are Gauss-Newton's; crop, augmentation, localization and refinement are DiMP's."""


def published_settings(network: NetworkSettings) -> TrackingSettings:
    """Return the published settings of a network's classifier, with the network's number of refinement steps."""
    published = PUBLISHED if network.classifier == "dimp" else PUBLISHED_ATOM
    return replace(published, refinement=replace(published.refinement, steps=network.refinement_steps))
