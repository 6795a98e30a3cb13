"""The tracking sequence: a protocol that datasets on disk and the synthetic composer implement."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError

Image = NDArray[np.uint8]
"""An image ``(H, W, 3)``, uint8, channels in RGB order; a TIR image repeats its one channel."""

Boxes = NDArray[np.float64]
"""Boxes ``(T, 4)`` as ``x y w h`` in pixels, not rounded; a row of NaN where a frame has no label."""

FramePair = Pair["Image | None"]
"""The RGB and the TIR image of a frame, aligned and of equal size; None where a modality is missing."""


def fill_missing_modality(frame: FramePair, *, where: str) -> Pair[Image]:
    """Return both images of a frame pair; the present image replaces a missing one.

    Args:
        frame: aligned images, at least one.
        where: the name of the frame, for errors.

    Raises:
        DataError: no image, images of different size, or an image that is not ``(H, W, 3)`` of uint8.
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
    """A video with one target: frame pairs, ground truth and attributes."""

    @property
    def name(self) -> str:
        """Name of the sequence, unique in its benchmark; result files have this name."""
        ...

    @property
    def boxes(self) -> Boxes:
        """Ground truth ``(T, 4)``, ``x y w h`` in pixels; NaN where a frame has no label."""
        ...

    @property
    def attributes(self) -> dict[str, NDArray[np.bool_]]:
        """A flag per frame ``(T,)`` for each attribute; empty without attributes."""
        ...

    def __len__(self) -> int:
        """Return the number of frames ``T``."""
        ...

    def frame(self, index: int) -> FramePair:
        """Return the frame pair ``index`` (from 0)."""
        ...


class CachedSequence:
    """A sequence that keeps its frames in memory once they are read; all of them must fit."""

    def __init__(self, sequence: TrackingSequence) -> None:
        self._sequence = sequence
        self._frames: dict[int, FramePair] = {}

    @property
    def name(self) -> str:
        """Name of the sequence."""
        return self._sequence.name

    @property
    def boxes(self) -> Boxes:
        """Ground truth ``(T, 4)``, ``x y w h`` in pixels."""
        return self._sequence.boxes

    @property
    def attributes(self) -> dict[str, NDArray[np.bool_]]:
        """A flag per frame ``(T,)`` for each attribute."""
        return self._sequence.attributes

    def __len__(self) -> int:
        return len(self._sequence)

    def frame(self, index: int) -> FramePair:
        """Return the frame pair ``index`` (from 0), read at most once."""
        if index not in self._frames:
            self._frames[index] = self._sequence.frame(index)
        return self._frames[index]
