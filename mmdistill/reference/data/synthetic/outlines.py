"""Random outlines: ellipses, rounded boxes and polygons, more or less irregular."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

POINTS = 48
FRACTION_BITS = 4


def random_outline(generator: np.random.Generator) -> NDArray[np.float64]:
    """Return a closed outline ``(P, 2)`` as x, y that touches all four sides of the unit square."""
    angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    kind = generator.integers(3)
    if kind == 0:
        angles = np.sort(generator.uniform(0, 2 * np.pi, generator.integers(5, 9)))
    exponent = 5.0 if kind == 1 else 2.0
    x, y = np.cos(angles), np.sin(angles)
    radius = (np.abs(x) ** exponent + np.abs(y) ** exponent) ** (-1 / exponent)
    waves = generator.integers(2, 6)
    radius *= 1 + generator.uniform(0, 0.15) * np.cos(waves * angles + generator.uniform(0, 2 * np.pi))
    points = np.stack([radius * x, radius * y], axis=1)
    return np.asarray((points - points.min(axis=0)) / np.ptp(points, axis=0))


def fill(outline: ArrayLike, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the mask ``(H, W)``, 0 to 255, of an outline ``(P, 2)`` in pixels on an image of ``size`` (w, h)."""
    mask = np.zeros(size[::-1], np.uint8)
    # OpenCV's coordinates are those of pixel centres, ours count from the pixels' corners.
    corners = np.rint((np.asarray(outline) - 0.5) * 2**FRACTION_BITS).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, lineType=cv2.LINE_AA, shift=FRACTION_BITS)
    return mask
