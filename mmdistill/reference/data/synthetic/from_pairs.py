"""Looks cut from real, unlabelled RGB-T pairs."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.reference.data.pairs import Pairs
from mmdistill.reference.data.synthetic.outlines import fill, random_outline
from mmdistill.reference.data.synthetic.textures import Cutout, Texture
from mmdistill.reference.errors import DataError

CANDIDATES = 12
"""Regions that are looked at for each cut-out; the one that differs most from what is around it is cut."""


class PairTextures:
    """Backgrounds and cut-outs from aligned pairs, the same region in both modalities.

    Backgrounds come from the even pairs and cut-outs from the odd ones, so that nothing is ever pasted onto the
    image that it was cut from.

    Args:
        pairs: at least two aligned pairs.

    Raises:
        DataError: there are fewer.
    """

    def __init__(self, pairs: Pairs) -> None:
        if len(pairs) < 2:
            raise DataError(f"{pairs.title}: expected at least 2 pairs to make video of, got {len(pairs)}")
        self.pairs = pairs

    def background(self, generator: np.random.Generator, size: tuple[int, int]) -> Texture:
        """Return a flipped and scaled crop of a real pair, of ``size`` (width, height)."""
        pair = self._draw(generator, first=0)
        height, width = pair.tir.shape
        scale = min(width / size[0], height / size[1]) * generator.uniform(0.6, 1.0)
        crop_width, crop_height = int(size[0] * scale), int(size[1] * scale)
        left, top = generator.integers(width - crop_width + 1), generator.integers(height - crop_height + 1)
        region = slice(top, top + crop_height), slice(left, left + crop_width)
        return _resized(Pair(pair.rgb[region], pair.tir[region]), size)

    def cutout(self, generator: np.random.Generator, size: tuple[int, int]) -> Cutout:
        """Return a region of a real pair that stands out there, in a random outline, of ``size`` (width, height)."""
        pair = self._draw(generator, first=1)
        height, width = pair.tir.shape
        stacked = np.dstack([pair.rgb, pair.tir])
        best, region = -1.0, (slice(0, height), slice(0, width))
        for _ in range(CANDIDATES):
            scale = generator.uniform(0.12, 0.3) * min(width, height) / max(size)
            w, h = max(int(size[0] * scale), 4), max(int(size[1] * scale), 4)
            left, top = generator.integers(w // 2, width - w - w // 2), generator.integers(h // 2, height - h - h // 2)
            candidate = slice(top, top + h), slice(left, left + w)
            around = slice(top - h // 2, top + h + h // 2), slice(left - w // 2, left + w + w // 2)
            difference = float(np.abs(_mean(stacked[candidate]) - _mean(stacked[around])).sum())
            if difference > best:
                best, region = difference, candidate
        mask = cv2.GaussianBlur(fill(random_outline(generator) * size, size), (3, 3), 0.8).astype(np.uint8)
        return Cutout(_resized(Pair(pair.rgb[region], pair.tir[region]), size), mask)

    def _draw(self, generator: np.random.Generator, *, first: int) -> Texture:
        """Return a random one of the pairs ``first``, ``first + 2`` ..., mirrored half of the time."""
        index = first + 2 * generator.integers((len(self.pairs) - first + 1) // 2)
        rgb, tir = self.pairs.large_pair(int(index))
        step = generator.choice([-1, 1])
        return Pair(rgb[:, ::step], tir[:, ::step, 0])


def _mean(region: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(region.mean(axis=(0, 1)))


def _resized(pair: Texture, size: tuple[int, int]) -> Texture:
    shrinks = pair.tir.shape[1] > size[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    rgb, tir = (cv2.resize(np.ascontiguousarray(image), size, interpolation=method) for image in pair)
    return Pair(rgb.astype(np.uint8, copy=False), tir.astype(np.uint8, copy=False))
