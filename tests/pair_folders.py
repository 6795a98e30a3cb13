"""Folders of aligned pairs that several test files read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mmdistill.toolkit.images import write_image


def write_pairs(root: Path, count: int, size: tuple[int, int] = (320, 240)) -> Path:
    """Write pairs of coarse noise, ``rgb/00.png`` and ``tir/00.png`` onwards, and return their folder.

    Args:
        root: the folder.
        count: of pairs.
        size: width and height in pixels.
    """
    generator = np.random.default_rng(0)
    width, height = size
    for number in range(count):
        for side in ("rgb", "tir"):
            coarse = generator.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
            write_image(root / side / f"{number:02d}.png", np.asarray(cv2.resize(coarse, size), np.uint8))
    return root
