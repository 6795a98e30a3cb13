"""TIR at RGB's size."""

from __future__ import annotations

import logging
from collections.abc import Callable
from fractions import Fraction

import cv2
import numpy as np

from mmdistill.pair import Pair
from mmdistill.reference.data.sequence import FramePair, Image

logger = logging.getLogger(__name__)

ASPECT_TOLERANCE = 0.02
"""Relative difference of two aspect ratios that is rounding: 1280 x 720 and 854 x 480 are both 16:9."""


def aspect_warning(rgb_size: tuple[int, int], tir_size: tuple[int, int]) -> str | None:
    """Return a warning if resizing TIR to RGB's size changes the shape of things in it, else None.

    >>> print(aspect_warning((1280, 720), (640, 480)))
    TIR of 640 x 480 (4:3) is stretched to RGB's 1280 x 720 (16:9): the aspect ratios differ, so positions may not match

    Args:
        rgb_size: width and height of the RGB image, pixels.
        tir_size: width and height of the TIR image, pixels.
    """
    rgb_ratio, tir_ratio = (width / height for width, height in (rgb_size, tir_size))
    if abs(rgb_ratio / tir_ratio - 1) <= ASPECT_TOLERANCE:
        return None
    rgb, tir = (f"{width} x {height} ({_aspect(width, height)})" for width, height in (rgb_size, tir_size))
    return f"TIR of {tir} is stretched to RGB's {rgb}: the aspect ratios differ, so positions may not match"


def _aspect(width: int, height: int) -> str:
    """Return an aspect ratio as people write it, such as ``16:9``."""
    ratio = Fraction(width, height)
    simple = ratio.limit_denominator(16)
    if simple and abs(simple / ratio - 1) < Fraction(1, 200) and simple.numerator <= 64:
        return f"{simple.numerator}:{simple.denominator}"
    return f"{width / height:.4g}:1"


class OneSize:
    """Makes both images of each frame one size: TIR is resized to RGB's, with one warning.

    Args:
        where: what the TIR frames are called.
        usual: returns the width and height of RGB frames, for frames in which RGB is missing; None if there is no RGB.
        warn: takes the warning.
    """

    def __init__(
        self,
        where: str,
        usual: Callable[[], tuple[int, int]] | None,
        warn: Callable[[str], object] = logger.warning,
    ) -> None:
        self._where, self._usual, self._warn = where, usual, warn
        self._warned = False

    def __call__(self, frame: FramePair) -> FramePair:
        """Return the frame with TIR at RGB's size."""
        if frame.tir is None or self._usual is None:
            return frame
        width, height = self._usual() if frame.rgb is None else frame.rgb.shape[1::-1]
        return Pair(frame.rgb, self._resized(frame.tir, width, height))

    def _resized(self, tir: Image, width: int, height: int) -> Image:
        if tir.shape[:2] == (height, width):
            return tir
        if not self._warned:
            given = tir.shape[1], tir.shape[0]
            resized = f"TIR of {given[0]} x {given[1]} is resized to RGB's {width} x {height}"
            self._warn(f"{self._where}: {aspect_warning((width, height), given) or resized}")
            self._warned = True
        return np.asarray(cv2.resize(tir, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
