"""Coarse search: scale, rotation and shift between two cameras, by correlation of orientation fields.

For each scale and rotation one Fourier transform gives the correlation at every shift. Sums over all frame pairs are
compared, so that pairs with little structure add little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.alignment.alignment import Array, transform
from mmdistill.toolkit.alignment.orientation import (
    GrayImage,
    OrientationField,
    orientation_field,
    scaling,
    warped_field,
)

SIDE = 160
"""Longer side of the RGB images in the search, pixels."""

SMOOTHING = 1.0
"""Smoothing of the fields, pixels."""

SCALES = np.exp(np.arange(math.log(0.55), math.log(1.82), math.log(1.06)))
"""Scales of TIR, relative to a resize to the area of RGB."""

ANGLES = np.arange(-9.0, 9.1, 3.0)
"""Rotations, degrees."""

MIN_OVERLAP = 0.2
"""Smallest share of the fields' energy in the overlap."""

PEAKS = 2
"""Best shifts that are kept for each scale and rotation."""

MIN_DISTANCE = 0.07
"""Smallest distance between two candidates, relative to RGB's longer side."""


Spectrum = NDArray[np.complexfloating[Any, Any]]


class Candidate(NamedTuple):
    """A possible homography.

    Attributes:
        score: the correlation, lower for a small overlap.
        matrix: homography from TIR to RGB pixels, ``(3, 3)``.
    """

    score: float
    matrix: Array


class _Transforms(NamedTuple):
    """Fourier transforms of a field, of its energy and of its valid pixels, and the sum of its energy."""

    values: Spectrum
    energy: Spectrum
    valid: Spectrum
    total: float


def find_candidates(pairs: Sequence[Pair[GrayImage]], count: int) -> list[Candidate]:
    """Return the best candidates, best first, no two of them close to each other.

    Args:
        pairs: frame pairs of one size per modality.
        count: the number of candidates.
    """
    rgb_size, tir_size = pairs[0].rgb.size, pairs[0].tir.size
    to_small = SIDE / max(rgb_size)
    nominal = math.sqrt(rgb_size[0] * rgb_size[1] / (tir_size[0] * tir_size[1])) * to_small
    small = [orientation_field(*pair.rgb.resized(to_small), SMOOTHING) for pair in pairs]
    if not any(field.values.any() for field in small):
        return []
    height, width = small[0].valid.shape
    tilt = math.sin(math.radians(ANGLES.max()))
    to_rgb = np.linalg.inv(scaling(width / rgb_size[0], height / rgb_size[1]))
    candidates: list[Candidate] = []
    for scale in SCALES * nominal:
        # Large enough for every shift without wrapping around.
        tilted = [math.ceil(scale * (side + other * tilt)) for side, other in (tir_size[::-1], tir_size)]
        shape = cv2.getOptimalDFTSize(height + tilted[0]), cv2.getOptimalDFTSize(width + tilted[1])
        rgb = [_transform(field, shape) for field in small]
        for angle in ANGLES:
            matrix, size = _rotation(tir_size, scale, angle)
            tir = [_transform(warped_field(pair.tir, matrix, size, SMOOTHING), shape) for pair in pairs]
            scores = _correlate(rgb, tir)
            for _ in range(PEAKS):
                row, column = map(int, np.unravel_index(scores.argmax(), shape))
                # Negative shifts are at the end of a circular correlation.
                y, x = row - shape[0] * (row >= height), column - shape[1] * (column >= width)
                shifted = np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]]) @ matrix
                candidates.append(Candidate(float(scores[row, column]), to_rgb @ shifted))
                around = np.arange(-4, 5)
                scores[np.ix_((row + around) % shape[0], (column + around) % shape[1])] = -1
    return _distinct(sorted(candidates, key=lambda each: -each.score), rgb_size, tir_size, count)


def best_other_shift(rgb: Sequence[OrientationField], tir: Sequence[OrientationField]) -> float:
    """Return the correlation of aligned fields after the best other shift of TIR, relative to that without a shift.

    It is near 1 if the scene repeats itself, as a fence does, or if it does not change along a direction.

    Args:
        rgb: fields of RGB, of one size.
        tir: fields of TIR in RGB's frame.
    """
    height, width = rgb[0].valid.shape
    shape = cv2.getOptimalDFTSize(2 * height), cv2.getOptimalDFTSize(2 * width)
    scores = _correlate([_transform(field, shape) for field in rgb], [_transform(field, shape) for field in tir])
    rows, columns = (np.minimum(np.arange(length), length - np.arange(length)) for length in shape)
    away = np.hypot(rows[:, None], columns) > MIN_DISTANCE * max(height, width)
    return float(scores[away].max() / max(float(scores[0, 0]), 1e-6))


def _rotation(size: tuple[int, int], scale: float, angle: float) -> tuple[Array, tuple[int, int]]:
    """Return the homography that scales and rotates an image, and the size of the result."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    new_width = math.ceil(scale * (size[0] * cosine + size[1] * abs(sine)))
    new_height = math.ceil(scale * (size[1] * cosine + size[0] * abs(sine)))
    linear = scale * np.array([[cosine, -sine], [sine, cosine]])
    center, new_center = ((np.array(each) - 1) / 2 for each in (size, (new_width, new_height)))
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, new_center - linear @ center
    return matrix, (new_width, new_height)


def _transform(field: OrientationField, shape: tuple[int, int]) -> _Transforms:
    values = field.values[..., 0] + 1j * field.values[..., 1]
    energy = (field.values**2).sum(axis=2)
    # One transform of two real images; their own ones are its even and odd parts.
    both = np.fft.fft2(energy + 1j * field.valid, shape)
    mirrored = np.conj(np.roll(both[::-1, ::-1], (1, 1), (0, 1)))
    return _Transforms(np.fft.fft2(values, shape), (both + mirrored) / 2, (both - mirrored) / 2j, float(energy.sum()))


def _correlate(rgb: Sequence[_Transforms], tir: Sequence[_Transforms]) -> NDArray[np.float32]:
    """Return the normalized correlation at each circular shift, times the root of the overlap's energy share."""
    product = sum(one.values * np.conj(other.values) for one, other in zip(rgb, tir, strict=True))
    energy = sum(
        one.energy * np.conj(other.valid) + 1j * one.valid * np.conj(other.energy)
        for one, other in zip(rgb, tir, strict=True)
    )
    both, energies = np.fft.ifft2(product).real, np.fft.ifft2(energy)
    total = max(min(sum(each.total for each in side) for side in (rgb, tir)), 1e-6)
    overlap = np.sqrt(np.maximum(energies.real, 0) * np.maximum(energies.imag, 0))
    scores = both / np.maximum(overlap, 1e-6) * np.sqrt(np.minimum(overlap / total, 1))
    return np.where(overlap > MIN_OVERLAP * total, scores, -1).astype(np.float32)


def _distinct(
    candidates: Sequence[Candidate], rgb_size: tuple[int, int], tir_size: tuple[int, int], count: int
) -> list[Candidate]:
    kept: list[Candidate] = []
    for each in candidates:
        if all(distance(each.matrix, other.matrix, tir_size) > MIN_DISTANCE * max(rgb_size) for other in kept):
            kept.append(each)
            if len(kept) == count:
                break
    return kept


def distance(first: Array, second: Array, tir_size: tuple[int, int]) -> float:
    """Return the largest distance between the images of four inner points of TIR, RGB pixels."""
    width, height = tir_size
    points = np.array([[x * width, y * height] for x in (0.25, 0.75) for y in (0.25, 0.75)])
    return float(np.linalg.norm(transform(first, points) - transform(second, points), axis=1).max())
