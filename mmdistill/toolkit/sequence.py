"""What a tracking sequence is, whoever made it: a folder on disk or the synthetic composer.

Keeping a sequence's frames in memory, for sources that are slower than memory and smaller than it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError

Image = NDArray[np.uint8]
"""An image ``(H, W, 3)``, uint8, channels in RGB order; a TIR image repeats its one channel."""

Boxes = NDArray[np.float64]
"""Boxes ``(T, 4)`` as ``x y w h`` in pixels, continuous; a row of NaN where a frame has no label."""

FramePair = Pair["Image | None"]
"""One frame: its RGB and its TIR image, aligned and of equal size; None where a modality is missing."""


def complete(frame: FramePair, *, where: str) -> Pair[Image]:
    """Return both images of a frame; the one that is there stands in for a missing one.

    Args:
        frame: aligned images, at least one.
        where: what got the frame, named in the error.

    Raises:
        DataError: neither is there, they differ in size, or one is no ``(H, W, 3)`` of uint8.
    """
    for modality, image in zip(Pair._fields, frame, strict=True):
        if image is not None:
            _check_image(image, modality, where)
    rgb = frame.rgb if frame.rgb is not None else frame.tir
    tir = frame.tir if frame.tir is not None else frame.rgb
    if rgb is None or tir is None:
        raise DataError(f"{where}: expected an RGB or a TIR image, got neither")
    if rgb.shape[:2] != tir.shape[:2]:
        sizes = " and ".join(f"{width} x {height}" for height, width in (rgb.shape[:2], tir.shape[:2]))
        raise DataError(f"{where}: expected aligned RGB and TIR images of one size, got {sizes} pixels")
    return Pair(rgb, tir)


def _check_image(image: Image, modality: str, where: str) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        got = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(f"{where}: expected the {modality} image as a uint8 array, got {got}")
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(f"{where}: expected the {modality} image as (H, W, 3), got {image.shape}")


class TrackingSequence(Protocol):
    """A video with one target: frames that belong to both modalities, boxes and attributes."""

    @property
    def name(self) -> str:
        """The sequence's name, unique within its benchmark; it names result files."""
        ...

    @property
    def boxes(self) -> Boxes:
        """Ground truth ``(T, 4)``, ``x y w h`` in pixels; NaN where a frame is not labeled."""
        ...

    @property
    def attributes(self) -> dict[str, NDArray[np.bool_]]:
        """For each attribute a flag per frame ``(T,)``; empty where the source has none."""
        ...

    def __len__(self) -> int:
        """Return the number of frames ``T``."""
        ...

    def frame(self, index: int) -> FramePair:
        """Return frame ``index`` (from 0), both modalities."""
        ...


class CachedSequence:
    """A sequence that makes or reads each frame once; use it where all frames fit into memory."""

    def __init__(self, sequence: TrackingSequence) -> None:
        self._sequence = sequence
        self._frames: dict[int, FramePair] = {}

    @property
    def name(self) -> str:
        """The sequence's name."""
        return self._sequence.name

    @property
    def boxes(self) -> Boxes:
        """The sequence's ground truth ``(T, 4)``."""
        return self._sequence.boxes

    @property
    def attributes(self) -> dict[str, NDArray[np.bool_]]:
        """The sequence's attributes."""
        return self._sequence.attributes

    def __len__(self) -> int:
        return len(self._sequence)

    def frame(self, index: int) -> FramePair:
        """Return frame ``index``, made or read at most once."""
        if index not in self._frames:
            self._frames[index] = self._sequence.frame(index)
        return self._frames[index]
