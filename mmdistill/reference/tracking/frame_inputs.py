"""The inputs of a tracked frame, prepared by the host: an array of numbers per slot, and the pixels of search areas.

The host does no arithmetic on pixels but resizing on the CPU, where OpenCV is faster than the step itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.crops import CropGeometry, cut, overlap
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.sequence import Image

Slots = NDArray[np.int64]
"""Indices of slots ``(s,)``, ascending, each once."""

_COLUMNS = (1, 1, 4, 1, 8, 5)
"""Columns of the fields of ``FrameNumbers`` before ``jitter``."""


class FrameNumbers(NamedTuple):
    """The numbers of a frame, one row per slot; the fields are adjacent columns of one array.

    Attributes:
        active: 1, or 0 if the slot has no video or no frame now; ``(S, 1)``.
        due: 1 if the target model is due for its regular iterations, else 0; ``(S, 1)``.
        origin: x, y of the search area's first pixel, 0, 0: ``(S, 4)``, image pixels.
        scale: image pixels per crop pixel, ``(S, 1)``.
        boxes: the image's bounds, 0, 0, width and height, and the target's last box, ``(S, 8)``, ``x y w h`` in image
            pixels.
        window: ``(S, 5)``: window pixels per crop pixel; x, y of the search area's first pixel in the window; x, y of
            the window's last pixel. Not read if the pixels are crops.
        jitter: of the proposals' centers and sides, relative to the root of the box's area, ``(S, 4 K)``; the first
            proposal has 0.
    """

    active: Tensor
    due: Tensor
    origin: Tensor
    scale: Tensor
    boxes: Tensor
    window: Tensor
    jitter: Tensor

    @classmethod
    def unpack(cls, numbers: Tensor) -> FrameNumbers:
        """Return the fields of an array ``(S, N)``; views."""
        return cls(*numbers.split([*_COLUMNS, numbers.shape[1] - sum(_COLUMNS)], dim=1))


class HostFrame(NamedTuple):
    """The next frame of s videos on the host.

    Attributes:
        slots: their slots, ``(s,)``, ascending.
        images: their images; with a network of one modality both members are one image.
        areas: x, y of the first pixel, and the side of their search areas, ``(s, 3)``, whole image pixels.
        due: whether the target models are due for their regular iterations, ``(s,)``, bool.
        boxes: the last boxes, ``(s, 4)``, ``x y w h`` in image pixels.
        jitter: see ``FrameNumbers``, ``(s, K, 4)``.
        size: side of a crop, pixels.
    """

    slots: Slots
    images: Sequence[Pair[Image]]
    areas: NDArray[np.int64]
    due: NDArray[np.bool_]
    boxes: Array
    jitter: Array
    size: int

    def numbers(self, windows: Array) -> Array:
        """Return the rows of ``FrameNumbers``, ``(s, N)``, of active slots; ``windows`` is its field ``window``."""
        count = len(self.slots)
        rows = np.zeros((count, num_numbers(self.jitter.shape[1])))
        rows[:, 0], rows[:, 1] = 1, self.due
        rows[:, 2:4] = self.areas[:, :2]
        rows[:, 6] = self.areas[:, 2] / self.size
        rows[:, 9:11] = [pair.rgb.shape[1::-1] for pair in self.images]
        rows[:, 11:15], rows[:, 15:20] = self.boxes, windows
        rows[:, 20:] = self.jitter.reshape(count, -1)
        return rows

    def geometries(self) -> list[CropGeometry]:
        """Return the search areas."""
        return [CropGeometry(*area, self.size) for area in self.areas.tolist()]


def num_numbers(proposals: int) -> int:
    """Return the number of columns of ``FrameNumbers`` with K proposals."""
    return sum(_COLUMNS) + 4 * proposals


def cut_crops(frame: HostFrame, modalities: int) -> tuple[NDArray[np.uint8], Array]:
    """Return crops ``(s, modalities, size, size, 3)`` and the numbers of windows that are crops, ``(s, 5)``."""
    crops = np.empty((len(frame.slots), modalities, frame.size, frame.size, 3), dtype=np.uint8)
    for number, (pair, geometry) in enumerate(zip(frame.images, frame.geometries(), strict=True)):
        for index in range(modalities):
            crops[number, index] = cut(pair[index], geometry)
    return crops, np.tile(_whole_window(frame.size), (len(crops), 1))


def copy_windows(frame: HostFrame, buffer: NDArray[np.uint8]) -> Array:
    """Copy the images' parts in the search areas to a buffer; return ``FrameNumbers.window``, ``(s, 5)``.

    A search area larger than the buffer is resized on the host.

    Args:
        frame: the frame.
        buffer: ``(s, M, side, side, 3)``.
    """
    numbers = np.empty((len(frame.slots), 5))
    for number, (pair, area) in enumerate(zip(frame.images, frame.areas.tolist(), strict=True)):
        left, top, side = area
        windows = buffer[number]
        if side > buffer.shape[2]:
            for index in range(buffer.shape[1]):
                windows[index, : frame.size, : frame.size] = cut(pair[index], CropGeometry(*area, frame.size))
            numbers[number] = _whole_window(frame.size)
            continue
        height, width = pair.rgb.shape[:2]
        first_row, last_row, *_ = overlap(top, side, height)
        first_column, last_column, *_ = overlap(left, side, width)
        rows, columns = last_row - first_row, last_column - first_column
        for index in range(buffer.shape[1]):
            windows[index, :rows, :columns] = pair[index][first_row:last_row, first_column:last_column]
        numbers[number] = (side / frame.size, left - first_column, top - first_row, columns - 1, rows - 1)
    return numbers


def _whole_window(size: int) -> tuple[float, ...]:
    """Return the numbers of a window that is a crop."""
    return (1.0, 0.0, 0.0, size - 1.0, size - 1.0)
