"""Where synthetic video takes its looks from: backgrounds, and things cut out to move over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair

Texture = Pair[NDArray[np.uint8]]
"""Aligned textures: RGB ``(H, W, 3)`` and TIR ``(H, W)``, uint8."""


@dataclass(frozen=True)
class Cutout:
    """A thing without its background.

    Args:
        pair: its looks, RGB ``(H, W, 3)`` and TIR ``(H, W)``; what lies outside the mask is never seen.
        mask: how much of each pixel it covers, ``(H, W)`` uint8, 0 to 255.
    """

    pair: Texture
    mask: NDArray[np.uint8]


class TextureSource(Protocol):
    """A source of looks; everything random comes from the generator that is given."""

    def background(self, generator: np.random.Generator, size: tuple[int, int]) -> Texture:
        """Return a scene of ``size`` (width, height) in pixels."""
        ...

    def cutout(self, generator: np.random.Generator, size: tuple[int, int]) -> Cutout:
        """Return a thing that fills ``size`` (width, height) in pixels."""
        ...
