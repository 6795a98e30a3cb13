"""TIR at RGB's size."""

from __future__ import annotations

import logging
from collections.abc import Callable
from fractions import Fraction

import cv2
import numpy as np

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import FramePair, Image

logger = logging.getLogger(__name__)

ASPECT_TOLERANCE = 0.02
"""Relative difference of two aspect ratios that is rounding: 1280 x 720 and 854 x 480 are both 16:9."""

MAX_WARNINGS = 5
"""Sizes of TIR that are warned of."""


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


class FixedSize:
    """Refuses an image of another size than the first: positions in it would mean something else.

    Args:
        where: what the frames are called.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._size: tuple[int, int] | None = None

    def __call__(self, image: Image | None, number: int) -> Image | None:
        """Return the image.

        Args:
            image: ``(H, W, 3)``, or None.
            number: the frame's, from 1, for the error.

        Raises:
            DataError: it has another size than the first one.
        """
        if image is None:
            return None
        size = image.shape[1], image.shape[0]
        self._size = self._size or size
        if size != self._size:
            first, this = (f"{width} x {height}" for width, height in (self._size, size))
            raise DataError(f"{self._where}: frame {number} is {this}, expected the first frame's size of {first}")
        return image


class OneSize:
    """Makes both images of each frame one size: TIR is resized to RGB's, with one warning for each size of TIR.

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
        self._warned: set[tuple[int, int]] = set()

    def __call__(self, frame: FramePair) -> FramePair:
        """Return the frame with TIR at RGB's size."""
        if frame.tir is None or self._usual is None:
            return frame
        width, height = self._usual() if frame.rgb is None else frame.rgb.shape[1::-1]
        return Pair(frame.rgb, self._resized(frame.tir, width, height))

    def _resized(self, tir: Image, width: int, height: int) -> Image:
        if tir.shape[:2] == (height, width):
            return tir
        given = tir.shape[1], tir.shape[0]
        if given not in self._warned and len(self._warned) < MAX_WARNINGS:
            resized = f"TIR of {given[0]} x {given[1]} is resized to RGB's {width} x {height}"
            self._warn(f"{self._where}: {aspect_warning((width, height), given) or resized}")
            self._warned.add(given)
        return np.asarray(cv2.resize(tir, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
