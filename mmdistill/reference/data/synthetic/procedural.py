"""Looks made of nothing but random numbers."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.reference.data.synthetic.outlines import fill, random_outline
from mmdistill.reference.data.synthetic.textures import Cutout, Texture

LOG_SHARES = (np.log(0.05), np.log(0.55))
"""The share of a scene's width and height that a shape takes, from to, as a logarithm."""

Field = NDArray[np.float32]
"""Values ``(H, W)`` or tones ``(H, W, 4)``: red, green, blue and temperature, 0 to 255."""


class ProceduralTextures:
    """Noise, stripes, checks and dots, in shapes that both modalities share.

    Shapes lie at the same place in RGB and TIR; their colour, their temperature and how strongly each modality
    shows a pattern are drawn apart, so that neither modality tells the other.
    """

    def background(self, generator: np.random.Generator, size: tuple[int, int]) -> Texture:
        """Return a scene of ``size`` (width, height): uneven ground, shapes on it, grain over all."""
        height = np.linspace(0, 1, size[1], dtype=np.float32)[:, None, None]
        ground = height * _tone(generator, 25) + (1 - height) * _tone(generator, 25)
        scene = ground + _noise(generator, size, 64) * _strength(generator, 8, 22)
        for _ in range(generator.integers(10, 30)):
            _add_shape(generator, scene)
        scene += _noise(generator, size, 8) * _strength(generator, 3, 12)
        return _texture(scene)

    def cutout(self, generator: np.random.Generator, size: tuple[int, int]) -> Cutout:
        """Return a thing of ``size`` (width, height): an outline filled with a few parts and shaded."""
        mask = fill(random_outline(generator) * size, size)
        body = np.zeros((size[1], size[0], 4), np.float32) + _tone(generator, 70)
        body += _pattern(generator, size) * _strength(generator, 10, 40)
        for _ in range(generator.integers(1, 5)):
            _add_shape(generator, body)
        x, y = np.linspace(-1, 1, size[0], dtype=np.float32), np.linspace(-1, 1, size[1], dtype=np.float32)
        body[..., :3] += generator.uniform(-25, 25) * x[:, None] + generator.uniform(-25, 25) * y[:, None, None]
        body[..., 3] += generator.uniform(0, 40) * (1 - x**2 - y[:, None] ** 2)
        return Cutout(_texture(body), mask)


def _tone(generator: np.random.Generator, spread: float) -> Field:
    """Return a tone ``(4,)``: a common brightness, a tint of its own per channel and a temperature."""
    tint = generator.normal(0, spread, 3)
    return np.append(generator.uniform(50, 200) + tint - tint.mean(), generator.uniform(45, 165)).astype(np.float32)


def _strength(generator: np.random.Generator, low: float, high: float) -> Field:
    """Return how strongly a pattern shows in each channel, ``(4,)``: signs and sizes drawn per modality."""
    rgb = generator.uniform(low, high) * generator.uniform(0.6, 1.0, 3)
    tir = generator.choice([-1, 1]) * generator.uniform(low, high) * 0.7
    return np.append(rgb, tir).astype(np.float32)


def _noise(generator: np.random.Generator, size: tuple[int, int], cell: int) -> Field:
    """Return smooth noise ``(H, W, 4)`` of about unit deviation, finer and fainter from ``cell`` pixels to two."""
    total = np.zeros((1, 1, 4), np.float32)
    weight, power = 1.0, 0.0
    while cell >= 2:
        shape = size[1] // cell + 1, size[0] // cell + 1, 4
        octave = generator.standard_normal(shape, dtype=np.float32)
        # The three colours share most of their noise: real surfaces vary in brightness more than in hue.
        octave[..., :3] = 0.9 * octave[..., :1] + 0.4 * octave[..., :3]
        total = weight * octave + cv2.resize(total, shape[1::-1], interpolation=cv2.INTER_LINEAR)
        power += weight**2
        weight, cell = weight * 0.6, cell // 2
    return np.asarray(cv2.resize(total, size, interpolation=cv2.INTER_LINEAR) / np.sqrt(power), np.float32)


def _pattern(generator: np.random.Generator, size: tuple[int, int]) -> Field:
    """Return a pattern ``(H, W, 1)`` between -1 and 1: plain, stripes, checks or dots, at any angle."""
    x, y = np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)[:, None]
    angle, period = generator.uniform(0, np.pi), generator.uniform(4, 24)
    turn = np.float32(2 * np.pi / period) * np.array([np.cos(angle), np.sin(angle)], np.float32)
    along, across = np.sin(turn[0] * x + turn[1] * y), np.sin(turn[0] * y - turn[1] * x)
    kinds = (np.zeros_like(along), np.tanh(3 * along), np.tanh(3 * along * across), along + across - 1)
    return np.asarray(np.clip(kinds[generator.integers(len(kinds))], -1, 1)[..., None])


def _add_shape(generator: np.random.Generator, scene: Field) -> None:
    """Draw a patterned shape of random tone somewhere onto ``scene``, in place."""
    extent = np.array(scene.shape[1::-1])
    width, height = (int(side) for side in np.maximum(np.exp(generator.uniform(*LOG_SHARES, 2)) * extent, 4))
    left, top = (int(start) for start in generator.uniform(0, 1, 2) * extent - (width / 2, height / 2))
    right, bottom = left + width, top + height
    inside = slice(max(-top, 0), scene.shape[0] - top), slice(max(-left, 0), scene.shape[1] - left)
    under = scene[max(top, 0) : bottom, max(left, 0) : right]
    shape = _tone(generator, 25) + _pattern(generator, (width, height)) * _strength(generator, 8, 30)
    opacity = np.float32(generator.uniform(0.4, 1) / 255) * fill(
        random_outline(generator) * (width, height), (width, height)
    )
    under += (shape[inside] - under) * opacity[inside][..., None]


def _texture(field: Field) -> Texture:
    values = np.clip(field, 0, 255).astype(np.uint8)
    return Pair(np.ascontiguousarray(values[..., :3]), np.ascontiguousarray(values[..., 3]))
