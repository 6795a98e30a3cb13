"""The constants of online tracking; the defaults are those of the published DiMP with ResNet-18 and 50, and ATOM's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.tracking.augmentation import TRANSFORMS, Share, Transform
from mmdistill.toolkit.ranges import PositiveInt, Range, RangeError, check_fields

Iterations = Annotated[int, Range(0, 1000)]


@dataclass(frozen=True)
class FirstFrameSettings:
    """How the first frame teaches the filter.

    Attributes:
        transforms: the crops besides the plain one, which is always there and first.
        patch_factor: side of the patch that is transformed, relative to the crop's.
        dropouts: how many more samples are the plain crop's features with channel dropout.
        dropout: the probability that a channel is dropped.
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
        """How many samples the first frame gives."""
        return 1 + len(self.transforms) + self.dropouts


@dataclass(frozen=True)
class LocalizationSettings:
    """What a score map is taken to say; scores are on the label's scale, 0 to 1.

    Attributes:
        not_found: a lower maximum means that the target is not there.
        neighborhood: side of what belongs to the maximum, relative to the target's.
        rival: a second maximum above this share of the first may be the target itself.
        distractor: one above this share of the first, and above ``not_found``, is something to learn from.
        reach: how far the target may move, relative to half the score map's side.
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
    """How boxes climb the predicted IoU.

    Attributes:
        random_boxes: start boxes besides the moved one.
        center_jitter: how far their centers are from its center at most, relative to the root of its area.
        size_jitter: how far their sides are from its sides at most, relative to the root of its area.
        minimum_start_side: their smallest side, relative to its smaller side.
        steps: gradient steps.
        step_length: factor on the gradient.
        minimum_side: smallest side of a refined box, crop pixels.
        maximum_aspect: boxes with a larger ratio of their sides are dropped.
        averaged: how many of the best boxes make up the result.
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
    """How the filter learns online.

    Attributes:
        memory: samples kept.
        rate: what share of the past a new sample takes over.
        hard_negative_rate: the same, for a hard negative.
        initial_share: the least weight of the first frame's samples together.
        interval: frames between two optimizations.
        iterations: optimizer steps then.
        hard_negative_iterations: optimizer steps at once after a hard negative.
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
    """All of it.

    Attributes:
        first_frame: see ``FirstFrameSettings``.
        localization: see ``LocalizationSettings``.
        refinement: see ``RefinementSettings``.
        learning: see ``LearningSettings``.
        minimum_side: the scale never falls below that of a target with this side, image pixels.
        inside_share: how much of the target stays inside the image along either axis.

    Raises:
        RangeError: a value out of its range, or the memory has no room for a sample besides the first frame's.
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
"""DiMP's."""

PUBLISHED_ATOM = TrackingSettings(
    first_frame=FirstFrameSettings(iterations=6),
    learning=LearningSettings(memory=250, interval=10, iterations=1),
)
"""ATOM's: its iterations are Gauss-Newton's; crop, augmentation, localization and refinement are DiMP's."""


def published_settings(network: NetworkSettings) -> TrackingSettings:
    """Return the published constants of a network's kind, with the refinement steps that the network is made for."""
    published = PUBLISHED if network.classifier == "dimp" else PUBLISHED_ATOM
    return replace(published, refinement=replace(published.refinement, steps=network.refinement_steps))
