"""TIR at RGB's size."""

from __future__ import annotations

import logging
from collections.abc import Callable

import cv2
import numpy as np

from mmdistill.pair import Pair
from mmdistill.reference.data.sequence import FramePair, Image

logger = logging.getLogger(__name__)


class OneSize:
    """Makes both images of each frame one size: TIR is resized to RGB's, which is logged once.

    Args:
        where: what the TIR frames are called.
        usual: returns the width and height of RGB frames, for frames in which RGB is missing; None if there is no RGB.
    """

    def __init__(self, where: str, usual: Callable[[], tuple[int, int]] | None) -> None:
        self._where, self._usual = where, usual
        self._said = False

    def __call__(self, frame: FramePair) -> FramePair:
        """Return the frame with TIR at RGB's size."""
        if frame.tir is None or self._usual is None:
            return frame
        width, height = self._usual() if frame.rgb is None else frame.rgb.shape[1::-1]
        return Pair(frame.rgb, self._resized(frame.tir, width, height))

    def _resized(self, tir: Image, width: int, height: int) -> Image:
        if tir.shape[:2] == (height, width):
            return tir
        if not self._said:
            given = f"{tir.shape[1]} x {tir.shape[0]}"
            logger.warning("%s: TIR of %s is resized to RGB's %d x %d", self._where, given, width, height)
            self._said = True
        return np.asarray(cv2.resize(tir, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
