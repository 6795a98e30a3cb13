"""Simulates a thermal image from a photograph: each region has a temperature of its own, shapes stay.

A thermal camera shows materials and heat instead of colors. Surfaces of one color are often one material, so pixels are
grouped by color and position. Each group gets a random temperature and a weak, random texture. The result is no
prediction of a real thermal image; it teaches a network that the modalities share shapes and not tones.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.sequence import Image

NUM_REGIONS = (3, 10)
"""Range of the number of regions in a scene, the end excluded."""

NUM_PARTS = (1, 4)
"""Range of the number of regions of an object, the end excluded."""

SAMPLE_SIDE = 40
"""Longer side of the small image in which regions are found, pixels."""

NUM_ITERATIONS = 4
"""Number of iterations that find the centers of regions."""

POSITION_WEIGHT = 25.0
"""Distance of opposite edges of the image, in levels of color."""

SOFTNESS = (8.0, 30.0)
"""Range of the difference of features at which two regions mix, in levels of color."""

MEAN_TEMPERATURE = (70.0, 170.0)
"""Range of an image's mean temperature, gray levels."""

SCENE_SPREAD = (15.0, 60.0)
"""Range of the standard deviation of temperatures in a scene, gray levels."""

OBJECT_SPREAD = (0.0, 30.0)
"""Range of the standard deviation of temperatures within an object, gray levels."""

MAX_TEXTURE = 0.5
"""Maximum change of temperature with brightness within a region, either sign."""

MAX_CORE = 40.0
"""Maximum difference of an object's core from its edge, gray levels."""

MAX_BLUR = 1.4
"""Maximum standard deviation of the blur, pixels; thermal optics are less sharp."""

Field = NDArray[np.float32]
"""Temperatures ``(H, W)``, gray levels."""


def simulate_thermal_scene(image: Image, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Return a thermal image ``(H, W)`` uint8 of a photograph ``(H, W, 3)``, RGB."""
    regions = find_regions(image, int(generator.integers(*NUM_REGIONS)), generator)
    heat = _heat_regions(image, regions, SCENE_SPREAD, generator)
    height, width = heat.shape
    slope = generator.normal(0, 12)  # the sky and the ground far away are colder or warmer
    heat += np.linspace(-slope, slope, height, dtype=np.float32)[:, None]
    coarse = generator.normal(0, 8, (4, 5)).astype(np.float32)
    heat += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return _to_image(heat, generator)


def simulate_thermal_object(image: Image, mask: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Return a thermal image ``(H, W)`` uint8 of an object.

    Args:
        image: ``(H, W, 3)``, RGB.
        mask: coverage of each pixel, ``(H, W)``, 0 to 255; other pixels have no meaning.
        generator: the source of randomness.
    """
    regions = find_regions(image, int(generator.integers(*NUM_PARTS)), generator)
    heat = _heat_regions(image, regions, OBJECT_SPREAD, generator)
    depth = cv2.distanceTransform((mask >= 128).astype(np.uint8), cv2.DIST_L2, 3)
    heat += np.float32(generator.uniform(-0.3, 1) * MAX_CORE) * np.sqrt(depth / max(float(depth.max()), 1.0))
    return _to_image(heat, generator)


def find_regions(image: Image, count: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return the share of each region in each pixel ``(H, W, count)``; the shares sum to 1.

    The regions' centers are found by k-means of color and position. A pixel between two centers belongs to both.

    Args:
        image: ``(H, W, 3)``, RGB.
        count: the number of regions.
        generator: draws the first centers, and how soft the regions are.
    """
    height, width = image.shape[:2]
    scale = min(SAMPLE_SIDE / max(height, width), 1.0)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    samples = _features(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8))
    centers = samples[generator.integers(len(samples), size=count)]
    for _ in range(NUM_ITERATIONS):
        nearest = _squared_distances(samples, centers).argmin(axis=1)
        for number in range(count):
            if (members := samples[nearest == number]).size:
                centers[number] = members.mean(axis=0)
    smooth = np.asarray(cv2.medianBlur(np.ascontiguousarray(image), 3), np.uint8)
    distances = _squared_distances(_features(smooth), centers)
    nearness = np.exp((distances.min(axis=1, keepdims=True) - distances) / generator.uniform(*SOFTNESS) ** 2)
    shares: NDArray[np.float32] = nearness / nearness.sum(axis=1, keepdims=True)
    return shares.astype(np.float32).reshape(height, width, count)


def _features(image: Image) -> NDArray[np.float32]:
    """Return the color (Lab) and position of each pixel ``(H * W, 5)``."""
    height, width = image.shape[:2]
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    position = np.dstack([x / width, y / height]) * np.float32(POSITION_WEIGHT)
    return np.concatenate([lab, position], axis=-1).reshape(-1, 5)


def _squared_distances(samples: NDArray[np.float32], centers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the squared distance ``(N, K)`` of each sample ``(N, 5)`` to each center ``(K, 5)``."""
    norms = (samples**2).sum(axis=1)[:, None] + (centers**2).sum(axis=1)
    return np.asarray(norms - 2 * samples @ centers.T, np.float32)


def _heat_regions(
    image: Image, regions: NDArray[np.float32], spread: tuple[float, float], generator: np.random.Generator
) -> Field:
    """Return temperatures ``(H, W)``: each region's own, plus its changes of brightness with a weight of any sign.

    Args:
        image: ``(H, W, 3)``, RGB.
        regions: the share of each region in each pixel, ``(H, W, K)``.
        spread: range of the standard deviation of the regions' temperatures, gray levels.
        generator: the source of randomness.
    """
    brightness = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)
    count = regions.shape[2]
    means = np.einsum("hwk,hw->k", regions, brightness) / np.maximum(regions.sum(axis=(0, 1)), 1)
    bases = generator.uniform(*MEAN_TEMPERATURE) + generator.uniform(*spread) * generator.normal(size=count)
    weights = generator.uniform(-MAX_TEXTURE, MAX_TEXTURE, count)
    offsets = bases - weights * means
    return np.asarray((regions @ weights) * brightness + regions @ offsets, np.float32)


def _to_image(heat: Field, generator: np.random.Generator) -> NDArray[np.uint8]:
    blur = generator.uniform(0.3, MAX_BLUR)
    return np.clip(cv2.GaussianBlur(heat, (0, 0), blur), 0, 255).astype(np.uint8)
