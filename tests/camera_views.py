"""Scenes as two cameras see them: RGB, and TIR with other tones, of a known homography."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.sequence import Image

SIZE = (320, 240)


def scene(seed: int, size: tuple[int, int] = SIZE, shapes: int = 40) -> Pair[Image]:
    """Return an aligned pair: the same shapes, with unrelated tones in each modality."""
    generator = np.random.default_rng(seed)
    width, height = size
    rgb = np.full((height, width, 3), generator.integers(60, 200, 3), np.uint8)
    tir = np.full((height, width), generator.integers(60, 200), np.uint8)
    for _ in range(shapes):
        center = generator.uniform((0, 0), size)
        angles = np.sort(generator.uniform(0, 2 * np.pi, generator.integers(3, 7)))
        radius = generator.uniform(12, 45)
        corners = center + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        polygon = np.rint(corners).astype(np.int32)
        cv2.fillPoly(rgb, [polygon], [int(value) for value in generator.integers(0, 256, 3)])
        cv2.fillPoly(tir, [polygon], [int(generator.integers(0, 256))])
    noise = generator.normal(0, 3, (height, width, 4))
    rgb = np.clip(cv2.GaussianBlur(rgb, (0, 0), 0.8) + noise[..., :3], 0, 255).astype(np.uint8)
    thermal = np.clip(cv2.GaussianBlur(tir, (0, 0), 1.2) + noise[..., 3], 0, 255).astype(np.uint8)
    return Pair(rgb, np.repeat(thermal[..., None], 3, axis=2))


def homography(scale: float, degrees: float, shift: tuple[float, float], size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the homography of a rotation and scale about the center of an image, and a shift in pixels."""
    angle, center = np.radians(degrees), (np.array(size) - 1) / 2
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, center + shift - linear @ center
    return matrix


def seen_by(pair: Pair[Image], matrix: NDArray[np.float64], size: tuple[int, int]) -> Pair[Image]:
    """Return a pair whose TIR camera has its own view: ``matrix`` maps its pixels to RGB's."""
    tir = cv2.warpPerspective(pair.tir, np.linalg.inv(matrix), size)
    return Pair(pair.rgb, np.asarray(tir, np.uint8))


def largest_distance(found: NDArray[np.float64], expected: NDArray[np.float64], size: tuple[int, int]) -> float:
    """Return the largest distance between the positions of inner points of TIR under two homographies."""
    points = [[x * size[0], y * size[1], 1.0] for x in (0.2, 0.5, 0.8) for y in (0.2, 0.5, 0.8)]
    moved = [(matrix @ np.array(points).T).T for matrix in (found, expected)]
    positions = [each[:, :2] / each[:, 2:] for each in moved]
    return float(np.linalg.norm(positions[0] - positions[1], axis=1).max())
