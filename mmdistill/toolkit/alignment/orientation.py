"""Orientation fields: what RGB and thermal images share, the directions of edges without their sign.

A gradient of angle a becomes the vector ``(cos 2a, sin 2a)``. Its weight is from 0 to 1, by its strength relative to
its neighborhood. An edge from dark to bright and one from bright to dark have the same vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.alignment.alignment import Array, derivative
from mmdistill.toolkit.sequence import Image

Plane = NDArray[np.float32]
Gray = NDArray[np.uint8]

MIN_BLANK = 0.005
"""Smallest share of an image that counts as a blank border."""

BLANK_DIFFERENCE = 6
"""Largest difference of gray levels in a blank border; JPEG changes a uniform color."""

MIN_CONVEXITY = 0.97
"""Smallest ratio of the image inside a blank border to its convex hull. A sky has an irregular outline."""

NOISE = 0.5
"""Gradient that counts as noise, gray levels per pixel."""


class OrientationField(NamedTuple):
    """The field of an image.

    Attributes:
        values: ``(H, W, 2)``, mean 0 over the valid pixels, 0 elsewhere.
        valid: 1 where the image has content, else 0; ``(H, W)``.
    """

    values: Plane
    valid: Plane


class GrayImage:
    """An image for matching: gray, with its blank border.

    Args:
        image: ``(H, W, 3)``, RGB.
    """

    def __init__(self, image: Image) -> None:
        self.gray: Gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.gray.shape[1], self.gray.shape[0]

    @cached_property
    def content(self) -> Gray:
        """1 inside a blank border, such as black bars, and 0 in it; ``(H, W)``."""
        return find_content(self.gray)

    def resized(self, scale: float) -> tuple[Gray, Gray]:
        """Return gray image and content at another scale."""
        size = tuple(max(1, round(side * scale)) for side in self.size)
        flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        gray, content = (
            cv2.resize(self.gray, size, interpolation=flags),
            cv2.resize(self.content, size, interpolation=cv2.INTER_NEAREST),
        )
        return np.asarray(gray, dtype=np.uint8), np.asarray(content, dtype=np.uint8)


def find_content(gray: Gray) -> Gray:
    """Return 1 inside a uniform border with straight sides, such as that of a warped image, and 0 in it.

    Args:
        gray: ``(H, W)``.
    """
    height, width = gray.shape
    border = np.zeros((height, width), np.uint8)
    for x, y in ((0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)):
        if border[y, x]:
            continue
        mask = np.zeros((height + 2, width + 2), np.uint8)
        flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (1 << 8)
        cv2.floodFill(gray.copy(), mask, (x, y), 0, BLANK_DIFFERENCE, BLANK_DIFFERENCE, flags)
        filled = mask[1:-1, 1:-1]
        if filled.mean() > MIN_BLANK:
            border |= filled
    everything: Gray = np.ones((height, width), np.uint8)
    inner = cv2.findNonZero(1 - border) if border.any() else None
    if inner is None:
        return everything
    hull = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(inner), (1,))
    straight = len(inner) > MIN_CONVEXITY * hull.sum() and hull.mean() > 0.1
    return hull if straight else everything


def orientation_field(gray: Gray, content: Gray, smoothing: float) -> OrientationField:
    """Return the orientation field of an image.

    Args:
        gray: ``(H, W)``.
        content: 1 where the image has content; ``(H, W)``.
        smoothing: standard deviation of the field's smoothing, pixels. A wider field matches from farther away.
    """
    blurred = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), 1.0)
    x, y = (cv2.Scharr(blurred, cv2.CV_32F, *axis) / 32 for axis in ((1, 0), (0, 1)))
    # Gradients beside the end of the content belong to that end.
    bordered = cv2.copyMakeBorder(content, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    valid = cv2.erode(bordered, np.ones((9, 9), np.uint8))[1:-1, 1:-1].astype(np.float32)
    squared = x * x + y * y
    strength = np.sqrt(squared) * valid
    mean = cv2.GaussianBlur(strength, (0, 0), 8.0) / np.maximum(cv2.GaussianBlur(valid, (0, 0), 8.0), 1e-3)
    weight = strength / (strength + mean + NOISE) / np.maximum(squared, 1e-6)
    values = np.dstack([(x * x - y * y) * weight, 2 * x * y * weight])
    values = (values - values.sum(axis=(0, 1)) / max(float(valid.sum()), 1.0)) * valid[..., None]
    smooth = np.asarray(cv2.GaussianBlur(values, (0, 0), smoothing), dtype=np.float32)
    return OrientationField(smooth * valid[..., None], valid)


def warped_field(image: GrayImage, matrix: Array, size: tuple[int, int], smoothing: float) -> OrientationField:
    """Return the orientation field of an image that is warped first.

    Args:
        image: the image.
        matrix: homography from its pixels to those of the result, ``(3, 3)``.
        size: width and height of the result, pixels.
        smoothing: see ``orientation_field``.
    """
    width, height = image.size
    scale = math.sqrt(abs(np.linalg.det(derivative(matrix, image.size))))
    gray, content = image.gray, image.content
    if 0 < scale < 0.6:
        gray, content = image.resized(scale)
        matrix = matrix @ np.linalg.inv(scaling(gray.shape[1] / width, gray.shape[0] / height))
    warped = cv2.warpPerspective(gray, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    covered = cv2.warpPerspective(content, matrix, size, flags=cv2.INTER_NEAREST)
    return orientation_field(np.asarray(warped, np.uint8), np.asarray(covered, np.uint8), smoothing)


def scaling(x: float, y: float) -> Array:
    """Return the homography ``(3, 3)`` of a resize; the outer edges of both images agree."""
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1.0]])


def correlation(first: Sequence[OrientationField], second: Sequence[OrientationField]) -> tuple[float, float]:
    """Return the correlation of fields where both are valid, and the share of the first's energy there."""
    both, energies, total = 0.0, [0.0, 0.0], 0.0
    for one, other in zip(first, second, strict=True):
        valid = (one.valid * other.valid)[..., None]
        both += float((one.values * other.values * valid).sum())
        energies[0] += float((one.values**2 * valid).sum())
        energies[1] += float((other.values**2 * valid).sum())
        total += float((one.values**2).sum())
    return both / math.sqrt(max(energies[0] * energies[1], 1e-12)), energies[0] / max(total, 1e-12)
