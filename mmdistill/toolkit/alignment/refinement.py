"""Refines a homography: blocks of RGB are found in the warped TIR, and a robust fit moves the homography to them.

The fit is a Gauss-Newton least squares with Cauchy weights. Unequal scales, shear and perspective have a prior around
0, so that few blocks give a similarity and many blocks a full homography.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.alignment.alignment import Array
from mmdistill.toolkit.alignment.orientation import (
    GrayImage,
    OrientationField,
    correlation,
    orientation_field,
    scaling,
    warped_field,
)

MIN_BLOCKS = 6
"""Smallest number of blocks for a fit."""

MIN_VALID = 0.6
"""Smallest share of a block that both images must cover."""

ROBUST_SCALE = 1.5
"""Residual at which a block has half its weight, pixels of the level."""

BLOCK_ERROR = 3.0
"""Standard deviation of a block's position against the prior, pixels; blocks overlap, so their errors are related."""

PRIOR = 0.01
"""Standard deviation of unequal scales, shear and perspective, relative to half the image's diagonal."""

ITERATIONS = 12

AGREEMENT = 2.0
"""Residual below which a block agrees with the fit, pixels of the level."""


class Matches(NamedTuple):
    """Blocks of RGB found in warped TIR.

    Attributes:
        rgb: centers of the blocks ``(N, 2)``, pixels.
        tir: where they were found ``(N, 2)``, pixels.
        weights: correlations, ``(N,)``, at least 0.
    """

    rgb: Array
    tir: Array
    weights: Array


class Level:
    """Frame pairs at one resolution.

    Args:
        pairs: frame pairs of one size per modality.
        side: longer side of the RGB images, pixels; smaller images are not enlarged.
        smoothing: smoothing of the fields, pixels.
        block: side of a block, pixels.
    """

    def __init__(self, pairs: Sequence[Pair[GrayImage]], side: int, smoothing: float, block: int) -> None:
        width, height = pairs[0].rgb.size
        scale = min(1.0, side / max(width, height))
        self._pairs, self._smoothing, self._block = pairs, smoothing, block
        self.rgb = [orientation_field(*pair.rgb.resized(scale), smoothing) for pair in pairs]
        self.size = self.rgb[0].valid.shape[1], self.rgb[0].valid.shape[0]
        self.pixel = max(width, height) / max(self.size)
        self._to_level = scaling(self.size[0] / width, self.size[1] / height)

    def warp(self, matrix: Array) -> list[OrientationField]:
        """Return the fields of TIR under a homography from TIR to RGB pixels."""
        to_level = self._to_level @ matrix
        return [warped_field(pair.tir, to_level, self.size, self._smoothing) for pair in self._pairs]

    def correlate(self, matrix: Array) -> tuple[float, float]:
        """Return correlation and shared energy under a homography; see ``correlation``."""
        return correlation(self.rgb, self.warp(matrix))

    def match(self, matrix: Array, radius: int) -> Matches:
        """Find the blocks of RGB in the warped TIR; correlations are added over the frame pairs.

        Args:
            matrix: homography from TIR to RGB pixels.
            radius: largest displacement, pixels.
        """
        tir = self.warp(matrix)
        padded = [
            cv2.copyMakeBorder(field.values, radius, radius, radius, radius, cv2.BORDER_CONSTANT) for field in tir
        ]
        block, found = self._block, []
        for top in range(0, self.size[1] - block + 1, block // 2):
            for left in range(0, self.size[0] - block + 1, block // 2):
                area = np.s_[top : top + block, left : left + block]
                window = np.s_[top : top + block + 2 * radius, left : left + block + 2 * radius]
                scores, energy = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32), 0.0
                for field, other, wide in zip(self.rgb, tir, padded, strict=True):
                    if float((field.valid[area] * other.valid[area]).mean()) >= MIN_VALID:
                        template = np.ascontiguousarray(field.values[area])
                        weight = float((template**2).sum())
                        scores += weight * cv2.matchTemplate(wide[window], template, cv2.TM_CCORR_NORMED)
                        energy += weight
                shift = _peak(scores) if energy > 1e-6 else None
                if shift is not None:
                    center = (left + (block - 1) / 2, top + (block - 1) / 2)
                    found.append((*center, center[0] + shift[0], center[1] + shift[1], scores.max() / energy))
        rows = np.array(found, dtype=np.float64).reshape(-1, 5)
        rgb, tir_points = (np.ascontiguousarray(rows[:, axes]) for axes in (slice(0, 2), slice(2, 4)))
        return Matches(rgb, tir_points, np.maximum(rows[:, 4], 0))

    def apply(self, correction: Array, matrix: Array) -> Array:
        """Return the homography ``matrix``, followed by a correction of pixels of this level."""
        moved = np.linalg.inv(self._to_level) @ correction @ self._to_level @ matrix
        return np.asarray(moved / moved[2, 2], dtype=np.float64)


class Refinement(NamedTuple):
    """A refined homography.

    Attributes:
        matrix: homography from TIR to RGB pixels, ``(3, 3)``.
        agreement: the share of blocks that agree with the fit.
        blocks: number of blocks.
        deviation: expected error of positions, RGB pixels: the mean over the image, from the fit's covariance.
    """

    matrix: Array
    agreement: float
    blocks: int
    deviation: float


def refine_similarity(level: Level, matrix: Array, radius: int, tolerance: float) -> Array | None:
    """Return a homography moved by a similarity to the matched blocks; None if there is no fit.

    Args:
        level: the frame pairs.
        matrix: homography from TIR to RGB pixels.
        radius: largest displacement of a block, pixels of the level.
        tolerance: largest residual of an inlier, pixels of the level.
    """
    matches = level.match(matrix, radius)
    if len(matches.rgb) < MIN_BLOCKS:
        return None
    moved, _ = cv2.estimateAffinePartial2D(
        matches.tir, matches.rgb, method=cv2.RANSAC, ransacReprojThreshold=tolerance, confidence=0.999
    )
    return None if moved is None else level.apply(np.vstack([moved, [0, 0, 1]]), matrix)


def refine_homography(level: Level, matrix: Array, radii: Sequence[int]) -> Refinement | None:
    """Return a homography refined once per radius; None if there are too few blocks.

    Args:
        level: the frame pairs.
        matrix: homography from TIR to RGB pixels.
        radii: largest displacements of a block, pixels of the level.
    """
    first = refine_similarity(level, matrix, radii[0], AGREEMENT)
    if first is None:
        return None
    refinement = None
    matrix = first
    for radius in radii:
        matches = level.match(matrix, radius)
        if len(matches.rgb) < MIN_BLOCKS:
            return None
        correction, residuals, deviation = fit_homography(matches, level.size)
        matrix = level.apply(correction, matrix)
        agreement = float((residuals < AGREEMENT).mean())
        refinement = Refinement(matrix, agreement, len(residuals), deviation * level.pixel)
    return refinement


def fit_homography(matches: Matches, size: tuple[int, int]) -> tuple[Array, Array, float]:
    """Fit the homography from warped TIR to RGB to matched blocks.

    Args:
        matches: the blocks.
        size: width and height of the images, pixels.

    Returns:
        The homography ``(3, 3)``, the residuals ``(N,)`` in pixels, and the mean standard deviation of positions over
        the image in pixels.
    """
    radius = math.hypot(*size) / 2
    to_unit = np.array([[1 / radius, 0, -(size[0] - 1) / 2 / radius], [0, 1 / radius, -(size[1] - 1) / 2 / radius]])
    source, target = (points @ to_unit[:, :2].T + to_unit[:, 2] for points in (matches.tir, matches.rgb))
    precision = (radius / BLOCK_ERROR) ** 2
    prior = np.diag([0.0] * 4 + [PRIOR**-2] * 4) + 1e-9 * np.eye(8)
    values = np.zeros(8)
    for _ in range(ITERATIONS):
        mapped, jacobian = _homography_at(values, source)
        errors = target - mapped
        residuals = radius * np.hypot(*errors.T)
        weights = precision * matches.weights / (1 + (residuals / ROBUST_SCALE) ** 2)
        weighted = jacobian * weights[:, None, None]
        information = np.einsum("nki,nkj->ij", weighted, jacobian) + prior
        values = values + np.linalg.solve(information, np.einsum("nki,nk->i", weighted, errors) - prior @ values)
    grid = np.stack(np.meshgrid(*(np.linspace(0, side - 1, 9) for side in size)), -1).reshape(-1, 2)
    _, jacobian = _homography_at(np.zeros(8), grid @ to_unit[:, :2].T + to_unit[:, 2])
    variances = np.einsum("nki,ij,nkj->n", jacobian, np.linalg.inv(information), jacobian)
    unit = np.vstack([to_unit, [0, 0, 1]])
    matrix = np.linalg.inv(unit) @ _to_matrix(values) @ unit
    return matrix / matrix[2, 2], residuals, float(radius * np.sqrt(variances).mean())


def _to_matrix(values: Array) -> Array:
    """Return the homography of a similarity (2 + 2 shift), unequal scale, shear, and perspective (2)."""
    scale, turn, x, y, stretch, shear, *perspective = values
    return np.array([[1 + scale + stretch, shear - turn, x], [turn + shear, 1 + scale - stretch, y], [*perspective, 1]])


def _homography_at(values: Array, points: Array) -> tuple[Array, Array]:
    """Return mapped points ``(N, 2)`` and their derivatives by the 8 values ``(N, 2, 8)``."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ _to_matrix(values).T
    depth = mapped[:, 2]
    u, v = mapped[:, 0] / depth, mapped[:, 1] / depth
    x, y = points.T
    one, none = np.ones_like(x), np.zeros_like(x)
    rows = [
        np.stack([x, -y, one, none, x, y, -u * x, -u * y], axis=1),
        np.stack([y, x, none, one, -y, x, -v * x, -v * y], axis=1),
    ]
    return np.column_stack([u, v]), np.stack(rows, axis=1) / depth[:, None, None]


def _peak(scores: NDArray[np.floating[Any]]) -> tuple[float, float] | None:
    """Return the displacement of the highest score, by a parabola along each axis; None at the border."""
    radius = len(scores) // 2
    row, column = map(int, np.unravel_index(scores.argmax(), scores.shape))
    if not (0 < row < 2 * radius and 0 < column < 2 * radius):
        return None
    return (
        column - radius + _vertex(*scores[row, column - 1 : column + 2]),
        row - radius + _vertex(*scores[row - 1 : row + 2, column]),
    )


def _vertex(before: float, peak: float, after: float) -> float:
    """Return the position of a parabola's vertex, from -0.5 to 0.5."""
    curvature = 2 * peak - before - after
    return float(np.clip((after - before) / 2 / max(curvature, 1e-9), -0.5, 0.5))
