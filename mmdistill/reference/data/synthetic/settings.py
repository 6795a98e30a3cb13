"""The settings of synthetic video."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mmdistill.reference.errors import DataError


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
        noise: deviation of the sensors' noise, grey levels.

    Raises:
        DataError: a setting is out of range.
    """

    size: tuple[int, int] = (240, 180)
    length: int = 100
    target_size: tuple[float, float] = (20.0, 44.0)
    target_aspect: tuple[float, float] = (0.5, 2.0)
    scale_change: float = 1.6
    speed: tuple[float, float] = (0.5, 3.5)
    distractors: tuple[int, int] = (0, 3)
    event_stretch: int = 30
    low_illumination: float = 0.3
    thermal_crossover: float = 0.3
    occlusion: float = 0.2
    camera_motion: float = 12.0
    noise: tuple[float, float] = (1.5, 6.0)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and field.name != "size" and not 0 <= value[0] <= value[1]:
                raise DataError(f"SyntheticSettings.{field.name}: expected a range from low to high, got {value}")
        largest = self.target_size[1] * self.scale_change
        events = (self.low_illumination, self.thermal_crossover, self.occlusion)
        requirements = {
            "length": (self.length >= 1, "at least 1 frame"),
            "event_stretch": (self.event_stretch >= 1, "at least 1 frame"),
            "scale_change": (self.scale_change >= 1, "at least 1"),
            "camera_motion": (self.camera_motion >= 0, "at least 0"),
            "speed": (self.speed[0] > 0, "more than 0"),
            "target_aspect": (self.target_aspect[0] > 0, "more than 0"),
            "target_size": (self.target_size[0] >= 4, "at least 4 pixels"),
            "size": (min(self.size) >= largest, f"an image larger than the largest target, {largest:g} pixels"),
            "occlusion": (min(events) >= 0 and sum(events) <= 1, "events' probabilities of at most 1 together"),
        }
        for name, (met, expected) in requirements.items():
            if not met:
                raise DataError(f"SyntheticSettings.{name}: expected {expected}, got {getattr(self, name)}")
