"""The inputs of a tracked frame, prepared by the host: an array of numbers per slot, and the pixels of search areas.

The host does no arithmetic on pixels but resizing on the CPU, where OpenCV is faster than the step itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
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
        iterations: regular iterations of the target model that are due, ``(S, 1)``.
        origin: x, y of the search area's first pixel, 0, 0: ``(S, 4)``, image pixels.
        scale: image pixels per crop pixel, ``(S, 1)``.
        boxes: the image's bounds, 0, 0, width and height, and the target's last box, ``(S, 8)``, ``x y w h`` in image
            pixels.
        window: ``(S, 5)``: the step from a crop pixel to the next; x, y of the crop's first pixel; x, y of the last pixel
            with a value. From -1 to 1 between the outer edges of the window. Not read if the pixels are crops.
        jitter: of the proposals' centers and sides, relative to the root of the box's area, ``(S, 4 K)``; the first
            proposal has 0.
    """

    active: Tensor
    iterations: Tensor
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
        iterations: regular iterations of the target models that are due, ``(s,)``.
        boxes: the last boxes, ``(s, 4)``, ``x y w h`` in image pixels.
        jitter: see ``FrameNumbers``, ``(s, K, 4)``.
        size: side of a crop, pixels.
    """

    slots: Slots
    images: Sequence[Pair[Image]]
    areas: NDArray[np.int64]
    iterations: NDArray[np.int64]
    boxes: Array
    jitter: Array
    size: int

    def part(self, positions: slice) -> HostFrame:
        """Return the frame of some of the videos."""
        return HostFrame(*(field[positions] for field in self[:-1]), self.size)

    def numbers(self, windows: ArrayLike = 0.0) -> Array:
        """Return the rows of ``FrameNumbers``, ``(s, N)``, of active slots; ``windows`` is its field ``window``."""
        count = len(self.slots)
        rows = np.zeros((count, num_numbers(self.jitter.shape[1])))
        rows[:, 0], rows[:, 1] = 1, self.iterations
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


def cut_crops(frame: HostFrame, modalities: int) -> NDArray[np.uint8]:
    """Return crops ``(s, modalities, size, size, 3)``."""
    crops = np.empty((len(frame.slots), modalities, frame.size, frame.size, 3), dtype=np.uint8)
    for number, (pair, geometry) in enumerate(zip(frame.images, frame.geometries(), strict=True)):
        for index in range(modalities):
            crops[number, index] = cut(pair[index], geometry)
    return crops


def copy_windows(frame: HostFrame, buffer: NDArray[np.uint8]) -> Array:
    """Copy the images' parts in the search areas to a buffer; return ``FrameNumbers.window``, ``(s, 5)``.

    A search area larger than the buffer is resized on the host.

    Args:
        frame: the frame.
        buffer: of all slots, ``(S, M, side, side, 3)``.
    """
    side = buffer.shape[2]
    # Window pixels: the step, the first pixel of the search area, the last pixel with a value.
    positions = np.empty((len(frame.slots), 5))
    for number, (pair, area) in enumerate(zip(frame.images, frame.areas.tolist(), strict=True)):
        left, top, length = area
        windows = buffer[frame.slots[number]]
        if length > side:
            for index in range(buffer.shape[1]):
                windows[index, : frame.size, : frame.size] = cut(pair[index], CropGeometry(*area, frame.size))
            positions[number] = (1, 0, 0, frame.size - 1, frame.size - 1)
            continue
        height, width = pair.rgb.shape[:2]
        first_row, last_row, *_ = overlap(top, length, height)
        first_column, last_column, *_ = overlap(left, length, width)
        rows, columns = last_row - first_row, last_column - first_column
        for index in range(buffer.shape[1]):
            windows[index, :rows, :columns] = pair[index][first_row:last_row, first_column:last_column]
        positions[number] = (length / frame.size, left - first_column, top - first_row, columns - 1, rows - 1)
    step = positions[:, :1]
    # Pixel i of a crop lies at (i + 0.5) * step - 0.5 in the search area; the center of pixel 0 at 1 / side - 1.
    first = positions[:, 1:3] + (step - 1) / 2
    return np.concatenate([2 * step, 2 * first + 1 - side, 2 * positions[:, 3:] + 1 - side], axis=1) / side
