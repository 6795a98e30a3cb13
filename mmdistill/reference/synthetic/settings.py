"""The settings of synthetic video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mmdistill.toolkit.ranges import LOW_TO_HIGH, Probability, Range, RangeError, check_fields

ImageSide = Annotated[int, Range(8, 16_384)]
Length = Annotated[int, Range(1, 10**6)]
TargetSide = Annotated[float, Range(4, 10_000)]
Aspect = Annotated[float, Range(0, 100, above=True)]
Speed = Annotated[float, Range(0, 1000, above=True)]
Distractors = Annotated[int, Range(0, 1000)]
GrayLevels = Annotated[float, Range(0, 255)]


@dataclass(frozen=True)
class SyntheticSettings:
    """What synthetic video is like; pairs are ranges that each video draws from.

    Args:
        size: width and height in pixels.
        length: number of frames.
        target_size: square root of the target's mean area, pixels.
        target_aspect: the target's mean width over its height.
        scale_change: the factor by which the target's size varies at most, up and down.
        speed: root mean square speed of target and look-alikes, pixels per frame.
        distractors: number of look-alikes.
        event_stretch: frames of a stretch that holds at most one event.
        low_illumination: the probability that it gets dark in a stretch.
        thermal_crossover: the probability that the target takes its surroundings' temperature in a stretch.
        occlusion: the probability that something passes in front of the target in a stretch.
        camera_motion: how far the camera moves from its mean view at most, pixels.
        noise: deviation of the sensors' noise, gray levels.

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
            raise RangeError(
                "SyntheticSettings.occlusion", "events' probabilities of at most 1 together", self.occlusion
            )
