"""Smooth motion that can be asked for any frame: sums of sines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HARMONICS = np.array([1.0, 2.0, 3.5])
SHARES = np.array([0.62, 0.26, 0.12])


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
        """Return ``channels`` independent oscillations whose slowest part takes about ``period`` frames."""
        rates = 2 * np.pi / period * HARMONICS * generator.uniform(0.8, 1.25, (channels, len(HARMONICS)))
        return cls(rates, generator.uniform(0, 2 * np.pi, rates.shape))

    def __call__(self, time: Array) -> Array:
        """Return the values ``(T, channels)`` at frames ``time`` ``(T,)``."""
        return np.asarray(np.sin(time[:, None, None] * self.rates + self.phases) @ SHARES)

    def slowed(self, factor: float) -> Oscillation:
        """Return the same oscillations, ``factor`` times slower."""
        return Oscillation(self.rates / factor, self.phases)

    @property
    def speed(self) -> Array:
        """The root mean square change per frame, ``(channels,)``."""
        return np.asarray(np.sqrt(((SHARES * self.rates) ** 2).sum(axis=1) / 2))


@dataclass(frozen=True)
class Poses:
    """Where a thing is in each frame.

    Args:
        center: x, y in pixels, ``(T, 2)``.
        size: width and height in pixels before it is turned, ``(T, 2)``.
        angle: radians, clockwise on the screen, ``(T,)``.
    """

    center: Array
    size: Array
    angle: Array

    def linear(self) -> Array:
        """Return the maps ``(T, 2, 2)`` that scale a unit square to the size and turn it."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        turns = np.stack([np.stack([cosine, -sine], axis=-1), np.stack([sine, cosine], axis=-1)], axis=-2)
        return turns * self.size[:, None, :]


def roam(
    generator: np.random.Generator,
    time: Array,
    image: tuple[int, int],
    *,
    size: tuple[float, float],
    speed: float,
    scale_change: float,
    turn: float,
) -> Poses:
    """Return the poses of a thing that roams an image and stays at least 72 % inside.

    Args:
        generator: the source of everything random.
        time: the frames, ``(T,)``.
        image: width and height in pixels.
        size: mean width and height of the thing in pixels.
        speed: root mean square speed, pixels per frame.
        scale_change: the factor by which its size varies at most, up and down.
        turn: the angle by which it sways at most, radians.
    """
    extent = np.array(image, dtype=np.float64)
    reach = np.maximum(extent / 2 - 0.35 * scale_change * np.array(size), 0.1 * extent)
    path = Oscillation.random(generator, 2, period=100)
    path = path.slowed(float(np.linalg.norm(reach * path.speed)) / speed)
    shape = Oscillation.random(generator, 3, period=generator.uniform(50, 200))(time)
    scale = scale_change ** shape[:, :1]
    # Width and height change against each other too, as when something turns away from the camera.
    stretch = 1.12 ** (shape[:, 1:2] * np.array([1, -1]))
    return Poses(extent / 2 + reach * path(time), np.array(size) * scale * stretch, turn * shape[:, 2])
