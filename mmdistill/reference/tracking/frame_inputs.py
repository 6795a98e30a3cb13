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

_COLUMNS = (1, 1, 4, 1, 12)
"""Columns of the fields of ``FrameNumbers`` before ``jitter``."""


class FrameNumbers(NamedTuple):
    """The numbers of a frame, one row per slot; the fields are adjacent columns of one array.

    Attributes:
        active: 1, or 0 if the slot has no video or no frame now; ``(S, 1)``.
        iterations: regular iterations of the target model that are due, ``(S, 1)``.
        origin: x, y of the search area's first pixel, 0, 0: ``(S, 4)``, image pixels.
        scale: image pixels per crop pixel, ``(S, 1)``.
        boxes: three boxes ``x y w h`` in image pixels, ``(S, 12)``: the image (0, 0, width, height), its far corner
            (width, height, 0, 0), and the target's last box.
        jitter: of the proposals' centers and sides, relative to the root of the box's area, ``(S, 4 K)``; the first
            proposal has 0.
    """

    active: Tensor
    iterations: Tensor
    origin: Tensor
    scale: Tensor
    boxes: Tensor
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

    def numbers(self) -> Array:
        """Return the rows of ``FrameNumbers``, ``(s, N)``, of active slots."""
        count = len(self.slots)
        rows = np.zeros((count, num_numbers(self.jitter.shape[1])))
        rows[:, 0], rows[:, 1] = 1, self.iterations
        rows[:, 2:4], rows[:, 6] = self.areas[:, :2], self.areas[:, 2] / self.size
        rows[:, 9:11] = rows[:, 11:13] = [pair.rgb.shape[1::-1] for pair in self.images]
        rows[:, 15:19] = self.boxes
        rows[:, 19:] = self.jitter.reshape(count, -1)
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


class Taps(NamedTuple):
    """The pixels of windows from which crops are interpolated, for each of s slots.

    Attributes:
        index: two columns, and two rows, of each crop pixel, ``(s, 2, 2, size)``, int64: axis, neighbor, pixel.
        weight: of the neighbors, ``(s, 2, 2, size)``, int32, in units of ``1 / TAP_UNITS``.
    """

    index: NDArray[np.int64]
    weight: NDArray[np.int32]


TAP_UNITS = 2048
"""Units of a tap's weight, as in OpenCV's ``INTER_LINEAR``."""


def copy_windows(frame: HostFrame, buffer: NDArray[np.uint8]) -> Taps:
    """Copy the images' parts in the search areas to a buffer, and return how to interpolate the crops from them.

    A search area larger than the buffer is resized on the host.

    Args:
        frame: the frame.
        buffer: of all slots, ``(S, M, side, side, 3)``.
    """
    areas, size = frame.areas.copy(), frame.size
    # Of each window: its first column and row in the image, and its last one in the buffer.
    first, last = np.zeros((2, len(areas), 2), dtype=np.int64)
    for number, (slot, pair, area) in enumerate(zip(frame.slots, frame.images, frame.areas.tolist(), strict=True)):
        left, top, side = area
        windows = buffer[slot]
        if side > buffer.shape[2]:
            for index in range(buffer.shape[1]):
                windows[index, :size, :size] = cut(pair[index], CropGeometry(*area, size))
            areas[number], last[number] = (0, 0, size), size - 1
            continue
        height, width = pair.rgb.shape[:2]
        first_row, last_row, *_ = overlap(top, side, height)
        first_column, last_column, *_ = overlap(left, side, width)
        rows, columns = last_row - first_row, last_column - first_column
        for index in range(buffer.shape[1]):
            windows[index, :rows, :columns] = pair[index][first_row:last_row, first_column:last_column]
        first[number], last[number] = (first_column, first_row), (columns - 1, rows - 1)
    return interpolation_taps(areas, first, last, size)


def interpolation_taps(
    areas: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64], size: int
) -> Taps:
    """Return the taps of OpenCV's ``INTER_LINEAR``.

    Args:
        areas: x, y of the first pixel, and the side of the areas, ``(s, 3)``, image pixels.
        first: x, y of the first pixel with a value in the windows, ``(s, 2)``, image pixels.
        last: x, y of the last pixel with a value, ``(s, 2)``, window pixels. Pixels beyond repeat the border.
        size: side of a crop, pixels.
    """
    side = areas[:, 2:]
    position = ((np.arange(size) + 0.5) * (side / size) - 0.5).astype(np.float32)
    before = np.floor(position)
    # Beyond the border OpenCV drops the fraction of columns, and weighs the border's row twice.
    beyond = (before < 0) | (before >= side - 1)
    fraction = np.stack([np.where(beyond, 0, position - before), position - before], axis=1)
    after = np.rint(fraction * TAP_UNITS).astype(np.int32)
    before = before.astype(np.int64)[:, None]
    neighbors = np.clip(np.stack([before, before + 1], axis=2), 0, side[:, :, None, None] - 1)
    index = neighbors + (areas[:, :2] - first)[:, :, None, None]
    return Taps(np.clip(index, 0, last[:, :, None, None]), np.stack([TAP_UNITS - after, after], axis=2))
