"""Generates backgrounds and foregrounds of synthetic video: from random numbers, or from real unlabeled RGB-T pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.image_pairs import Pairs

Texture = Pair[NDArray[np.uint8]]
"""Aligned textures: RGB ``(H, W, 3)`` and TIR ``(H, W)``, uint8."""


@dataclass(frozen=True)
class Foreground:
    """The texture of an object, with its mask.

    Args:
        pair: RGB ``(H, W, 3)`` and TIR ``(H, W)``; pixels outside the mask are never drawn.
        mask: coverage of each pixel, ``(H, W)`` uint8, 0 to 255.
    """

    pair: Texture
    mask: NDArray[np.uint8]


class TextureSource(Protocol):
    """A source of textures; all randomness comes from the given generator."""

    def background(self, generator: np.random.Generator, size: tuple[int, int]) -> Texture:
        """Return a scene of ``size`` (width, height) in pixels."""
        ...

    def foreground(self, generator: np.random.Generator, size: tuple[int, int]) -> Foreground:
        """Return an object that fills ``size`` (width, height) in pixels."""
        ...


NUM_OUTLINE_POINTS = 48
_SUBPIXEL_BITS = 4

NUM_REGION_CANDIDATES = 12
"""Number of regions tried for each foreground; the one that differs most from its surroundings is used."""

_LOG_SHAPE_SHARES = (np.log(0.05), np.log(0.55))
"""Range of the logarithm of a shape's side, as a share of the scene's."""

Field = NDArray[np.float32]
"""Values ``(H, W)`` or tones ``(H, W, 4)``: red, green, blue and temperature, 0 to 255."""


def random_outline(generator: np.random.Generator) -> NDArray[np.float64]:
    """Return a random closed outline ``(P, 2)`` as x, y that touches all four sides of the unit square.

    It is an ellipse, a rounded box or a polygon, more or less irregular.
    """
    angles = np.linspace(0, 2 * np.pi, NUM_OUTLINE_POINTS, endpoint=False)
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


def fill_outline(outline: ArrayLike, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the mask ``(H, W)``, 0 to 255, of an outline.

    Args:
        outline: x, y in pixels, ``(P, 2)``.
        size: width and height of the mask.
    """
    mask = np.zeros(size[::-1], np.uint8)
    # OpenCV's coordinates start at the center of the first pixel, these at its corner.
    corners = np.rint((np.asarray(outline) - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    return mask


class ProceduralTextures:
    """Noise, stripes, checks and dots, in shapes shared by both modalities.

    Shapes have the same position in RGB and TIR. Color, temperature and pattern strength are drawn independently, so
    that one modality can't be predicted from the other.
    """

    def background(self, generator: np.random.Generator, size: tuple[int, int]) -> Texture:
        """Return a scene of ``size`` (width, height): a gradient with noise, and random shapes."""
        height = np.linspace(0, 1, size[1], dtype=np.float32)[:, None, None]
        ground = height * _tone(generator, 25) + (1 - height) * _tone(generator, 25)
        scene = ground + _noise(generator, size, 64) * _strength(generator, 8, 22)
        for _ in range(generator.integers(10, 30)):
            _add_shape(generator, scene)
        scene += _noise(generator, size, 8) * _strength(generator, 3, 12)
        return _texture(scene)

    def foreground(self, generator: np.random.Generator, size: tuple[int, int]) -> Foreground:
        """Return an object of ``size`` (width, height): a random outline with shading and a few parts."""
        mask = fill_outline(random_outline(generator) * size, size)
        body = np.zeros((size[1], size[0], 4), np.float32) + _tone(generator, 70)
        body += _pattern(generator, size) * _strength(generator, 10, 40)
        for _ in range(generator.integers(1, 5)):
            _add_shape(generator, body)
        x, y = np.linspace(-1, 1, size[0], dtype=np.float32), np.linspace(-1, 1, size[1], dtype=np.float32)
        body[..., :3] += generator.uniform(-25, 25) * x[:, None] + generator.uniform(-25, 25) * y[:, None, None]
        body[..., 3] += generator.uniform(0, 40) * (1 - x**2 - y[:, None] ** 2)
        return Foreground(_texture(body), mask)


def _tone(generator: np.random.Generator, spread: float) -> Field:
    """Return a random tone ``(4,)``: a common brightness with a tint per channel, and a temperature."""
    tint = generator.normal(0, spread, 3)
    return np.append(generator.uniform(50, 200) + tint - tint.mean(), generator.uniform(45, 165)).astype(np.float32)


def _strength(generator: np.random.Generator, low: float, high: float) -> Field:
    """Return the random strength of a pattern in each channel, ``(4,)``, drawn independently per modality."""
    rgb = generator.uniform(low, high) * generator.uniform(0.6, 1.0, 3)
    tir = generator.choice([-1, 1]) * generator.uniform(low, high) * 0.7
    return np.append(rgb, tir).astype(np.float32)


def _noise(generator: np.random.Generator, size: tuple[int, int], cell: int) -> Field:
    """Return smooth noise ``(H, W, 4)`` of about unit deviation, in octaves from ``cell`` pixels to two."""
    total = np.zeros((1, 1, 4), np.float32)
    weight, power = 1.0, 0.0
    while cell >= 2:
        shape = size[1] // cell + 1, size[0] // cell + 1, 4
        octave = generator.standard_normal(shape, dtype=np.float32)
        # The colors share most of their noise, because real surfaces vary more in brightness than in hue.
        octave[..., :3] = 0.9 * octave[..., :1] + 0.4 * octave[..., :3]
        total = weight * octave + cv2.resize(total, shape[1::-1], interpolation=cv2.INTER_LINEAR)
        power += weight**2
        weight, cell = weight * 0.6, cell // 2
    return np.asarray(cv2.resize(total, size, interpolation=cv2.INTER_LINEAR) / np.sqrt(power), np.float32)


def _pattern(generator: np.random.Generator, size: tuple[int, int]) -> Field:
    """Return a random pattern ``(H, W, 1)`` between -1 and 1: plain, stripes, checks or dots, at any angle."""
    x, y = np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)[:, None]
    angle, period = generator.uniform(0, np.pi), generator.uniform(4, 24)
    turn = np.float32(2 * np.pi / period) * np.array([np.cos(angle), np.sin(angle)], np.float32)
    along, across = np.sin(turn[0] * x + turn[1] * y), np.sin(turn[0] * y - turn[1] * x)
    kinds = (np.zeros_like(along), np.tanh(3 * along), np.tanh(3 * along * across), along + across - 1)
    return np.asarray(np.clip(kinds[generator.integers(len(kinds))], -1, 1)[..., None])


def _add_shape(generator: np.random.Generator, scene: Field) -> None:
    """Draw a random patterned shape on ``scene`` ``(H, W, 4)``, in place."""
    extent = np.array(scene.shape[1::-1])
    width, height = (int(side) for side in np.maximum(np.exp(generator.uniform(*_LOG_SHAPE_SHARES, 2)) * extent, 4))
    left, top = (int(start) for start in generator.uniform(0, 1, 2) * extent - (width / 2, height / 2))
    right, bottom = left + width, top + height
    inside = slice(max(-top, 0), scene.shape[0] - top), slice(max(-left, 0), scene.shape[1] - left)
    under = scene[max(top, 0) : bottom, max(left, 0) : right]
    shape = _tone(generator, 25) + _pattern(generator, (width, height)) * _strength(generator, 8, 30)
    opacity = np.float32(generator.uniform(0.4, 1) / 255) * fill_outline(
        random_outline(generator) * (width, height), (width, height)
    )
    under += (shape[inside] - under) * opacity[inside][..., None]


def _texture(field: Field) -> Texture:
    values = np.clip(field, 0, 255).astype(np.uint8)
    return Pair(np.ascontiguousarray(values[..., :3]), np.ascontiguousarray(values[..., 3]))


class PairTextures:
    """Backgrounds and foregrounds cropped from aligned pairs, the same region in both modalities.

    Backgrounds come from even pairs and foregrounds from odd ones, so that no object is drawn on its own image.

    Args:
        pairs: at least two aligned pairs.

    Raises:
        DataError: there are fewer than two pairs.
    """

    def __init__(self, pairs: Pairs) -> None:
        if len(pairs) < 2:
            raise DataError(f"{pairs.title}: expected at least 2 pairs, got {len(pairs)}")
        self.pairs = pairs

    def background(self, generator: np.random.Generator, size: tuple[int, int]) -> Texture:
        """Return a random crop of a pair, resized to ``size`` (width, height)."""
        pair = self._draw(generator, first=0)
        height, width = pair.tir.shape
        scale = min(width / size[0], height / size[1]) * generator.uniform(0.6, 1.0)
        crop_width, crop_height = int(size[0] * scale), int(size[1] * scale)
        left, top = generator.integers(width - crop_width + 1), generator.integers(height - crop_height + 1)
        region = slice(top, top + crop_height), slice(left, left + crop_width)
        return _resize(Pair(pair.rgb[region], pair.tir[region]), size)

    def foreground(self, generator: np.random.Generator, size: tuple[int, int]) -> Foreground:
        """Return a salient region of a pair in a random outline, resized to ``size`` (width, height)."""
        pair = self._draw(generator, first=1)
        height, width = pair.tir.shape
        stacked = np.dstack([pair.rgb, pair.tir])
        best, region = -1.0, (slice(0, height), slice(0, width))
        for _ in range(NUM_REGION_CANDIDATES):
            scale = generator.uniform(0.12, 0.3) * min(width, height) / max(size)
            w, h = max(int(size[0] * scale), 4), max(int(size[1] * scale), 4)
            left, top = generator.integers(w // 2, width - w - w // 2), generator.integers(h // 2, height - h - h // 2)
            candidate = slice(top, top + h), slice(left, left + w)
            around = slice(top - h // 2, top + h + h // 2), slice(left - w // 2, left + w + w // 2)
            difference = float(np.abs(_mean(stacked[candidate]) - _mean(stacked[around])).sum())
            if difference > best:
                best, region = difference, candidate
        mask = cv2.GaussianBlur(fill_outline(random_outline(generator) * size, size), (3, 3), 0.8).astype(np.uint8)
        return Foreground(_resize(Pair(pair.rgb[region], pair.tir[region]), size), mask)

    def _draw(self, generator: np.random.Generator, *, first: int) -> Texture:
        """Return a random pair of ``first``, ``first + 2`` ..., mirrored with probability 0.5."""
        index = first + 2 * generator.integers((len(self.pairs) - first + 1) // 2)
        rgb, tir = self.pairs.large_pair(int(index))
        step = generator.choice([-1, 1])
        return Pair(rgb[:, ::step], tir[:, ::step, 0])


def _mean(region: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(region.mean(axis=(0, 1)))


def _resize(pair: Texture, size: tuple[int, int]) -> Texture:
    shrink = pair.tir.shape[1] > size[0]
    method = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    rgb, tir = (cv2.resize(np.ascontiguousarray(image), size, interpolation=method) for image in pair)
    return Pair(rgb.astype(np.uint8, copy=False), tir.astype(np.uint8, copy=False))
