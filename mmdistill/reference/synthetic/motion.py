"""Generates smooth random motion as sums of sines, so that any frame can be computed on its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmdistill.toolkit.boxes import Array

HARMONICS = np.array([1.0, 2.0, 3.5])
AMPLITUDES = np.array([0.62, 0.26, 0.12])


@dataclass(frozen=True)
class Oscillation:
    """Smooth random values between -1 and 1.

    Args:
        rates: radians per frame, ``(channels, 3)``.
        phases: radians, ``(channels, 3)``.
    """

    rates: Array
    phases: Array

    @classmethod
    def random(cls, generator: np.random.Generator, channels: int, period: float) -> Oscillation:
        """Return ``channels`` independent oscillations with a slowest period of about ``period`` frames."""
        rates = 2 * np.pi / period * HARMONICS * generator.uniform(0.8, 1.25, (channels, len(HARMONICS)))
        return cls(rates, generator.uniform(0, 2 * np.pi, rates.shape))

    def __call__(self, time: Array) -> Array:
        """Return the values ``(T, channels)`` at frames ``time`` ``(T,)``."""
        return np.asarray(np.sin(time[:, None, None] * self.rates + self.phases) @ AMPLITUDES)

    def slowed(self, factor: float) -> Oscillation:
        """Return the same oscillations, ``factor`` times slower."""
        return Oscillation(self.rates / factor, self.phases)

    @property
    def speed(self) -> Array:
        """The root mean square change per frame, ``(channels,)``."""
        return np.asarray(np.sqrt(((AMPLITUDES * self.rates) ** 2).sum(axis=1) / 2))


@dataclass(frozen=True)
class Poses:
    """The position, size and rotation of an object in each frame.

    Args:
        center: x, y in pixels, ``(T, 2)``.
        size: width and height in pixels before rotation, ``(T, 2)``.
        angle: radians, clockwise on the screen, ``(T,)``.
    """

    center: Array
    size: Array
    angle: Array

    def linear(self) -> Array:
        """Return the linear maps ``(T, 2, 2)`` that scale and rotate a unit square."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        rotations = np.stack([np.stack([cosine, -sine], axis=-1), np.stack([sine, cosine], axis=-1)], axis=-2)
        return rotations * self.size[:, None, :]


def random_trajectory(
    generator: np.random.Generator,
    time: Array,
    image: tuple[int, int],
    *,
    size: tuple[float, float],
    speed: float,
    scale_change: float,
    max_angle: float,
) -> Poses:
    """Return random poses of an object that moves through an image; at least 72 % of it stay inside.

    Args:
        generator: the source of randomness.
        time: the frames, ``(T,)``.
        image: width and height of the image, pixels.
        size: mean width and height of the object, pixels.
        speed: root mean square speed, pixels per frame.
        scale_change: maximum factor between the size and its mean, up and down.
        max_angle: maximum rotation, radians.
    """
    extent = np.array(image, dtype=np.float64)
    amplitude = np.maximum(extent / 2 - 0.35 * scale_change * np.array(size), 0.1 * extent)
    path = Oscillation.random(generator, 2, period=100)
    path = path.slowed(float(np.linalg.norm(amplitude * path.speed)) / speed)
    shape = Oscillation.random(generator, 3, period=generator.uniform(50, 200))(time)
    scale = scale_change ** shape[:, :1]
    # The aspect ratio changes too, as when an object turns away from the camera.
    stretch = 1.12 ** (shape[:, 1:2] * np.array([1, -1]))
    return Poses(extent / 2 + amplitude * path(time), np.array(size) * scale * stretch, max_angle * shape[:, 2])
