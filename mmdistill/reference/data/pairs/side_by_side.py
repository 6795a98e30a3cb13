"""Images with RGB in the left half and TIR in the right: how they are told from images of one modality."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.data.images import read_image
from mmdistill.reference.data.sequence import Image
from mmdistill.reference.errors import DataError, printable

MAX_EXAMINED = 8
"""How many images are read to decide."""

MAX_GRAY_CHROMA = 10.0
"""Grey levels between the channels of a pixel that JPEG makes of gray."""

MIN_COLOR_CHROMA = 24.0
"""Grey levels between the channels of the most colorful pixels of a color image."""

_SEAM = 16
"""Columns beside the middle into which JPEG carries color."""


def why_not_side_by_side(paths: Sequence[Path]) -> str | None:
    """Return why images can't be taken for RGB and TIR side by side, or None if they can.

    Of up to eight images each must have an even width and a gray right half, and most must have color in the left half.

    Args:
        paths: the images, at least one.
    """
    step = max(1, len(paths) // MAX_EXAMINED)
    examined = paths[::step][:MAX_EXAMINED]
    colored = 0
    for path in examined:
        try:
            image = read_image(path)
        except DataError:
            return f"{printable(path.name)} can't be read"
        if image.shape[1] % 2:
            return f"{printable(path.name)} has an odd width of {image.shape[1]}"
        left, right = halves(image)
        if not is_gray(right):
            return f"the right half of {printable(path.name)} has color, so it is no TIR"
        colored += _chroma(left) >= MIN_COLOR_CHROMA
    if 2 * colored <= len(examined):
        return "the left halves are as gray as the right ones"
    return None


def halves(image: Image) -> tuple[Image, Image]:
    """Return both halves of an image of even width."""
    middle = image.shape[1] // 2
    return image[:, :middle], image[:, middle:]


def is_gray(right: Image) -> bool:
    """Return whether the right half of an image holds no color."""
    return _chroma(right[:, min(_SEAM, right.shape[1] // 2) :]) <= MAX_GRAY_CHROMA


def _chroma(image: NDArray[np.uint8]) -> float:
    """Return how far the channels of the most colorful hundredth of the pixels differ at least, grey levels."""
    some = image[:: max(1, image.shape[0] // 256), :: max(1, image.shape[1] // 256)]
    return float(np.percentile(some.max(axis=2) - some.min(axis=2), 99)) if some.size else 0.0
