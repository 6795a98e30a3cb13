"""The inputs of a tracked frame, prepared by the host: an array of numbers per slot, and the pixels of search areas.

The host does no arithmetic on pixels but resizing on the CPU, where OpenCV is faster than the step itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.crops import CropGeometry, cut
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
        return cls(*torch.split(numbers, [*_COLUMNS, numbers.shape[1] - sum(_COLUMNS)], dim=1))


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

    def geometry(self, number: int) -> CropGeometry:
        """Return the search area of the video with this position in the frame."""
        left, top, side = self.areas[number].tolist()
        return CropGeometry(left, top, side, self.size)


def num_numbers(proposals: int) -> int:
    """Return the number of columns of ``FrameNumbers`` with K proposals."""
    return sum(_COLUMNS) + 4 * proposals


def cut_crops(frame: HostFrame, modalities: int) -> NDArray[np.uint8]:
    """Return crops ``(s, modalities, size, size, 3)``."""
    crops = np.empty((len(frame.slots), modalities, frame.size, frame.size, 3), dtype=np.uint8)
    for number, pair in enumerate(frame.images):
        geometry = frame.geometry(number)
        for index in range(modalities):
            crops[number, index] = cut(pair[index], geometry)
    return crops


TAP_UNITS = 2048
"""Units of a tap's weight, as in OpenCV's ``INTER_LINEAR``."""


class Taps(NamedTuple):
    """The pixels from which the crops of s slots are interpolated: two neighbors along either axis.

    A pixel's index in the buffer is the sum of its row's and its column's.

    Attributes:
        rows: ``(s, M, 2, size)``, int64: modality, neighbor, row of the crop.
        columns: ``(s, 2, size)``, int64.
        weights: of the neighbors in columns, then in rows, ``(s, 2, 2, size)``, int32, in units of ``1 / TAP_UNITS``.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    weights: NDArray[np.int32]


class Windows:
    """The parts of a frame's images in the search areas, one after the other in a buffer.

    Search areas longer than ``max_side`` are resized to crops on the host, by averaging, as ``crops.cut`` does.

    Args:
        frame: the frame.
        modalities: M, how many images of each pair.
        max_side: pixels.

    Attributes:
        ends: the number of pixels before the end of each slot's windows, ``(s,)``.
    """

    def __init__(self, frame: HostFrame, modalities: int, max_side: int) -> None:
        self._frame, self._modalities = frame, modalities
        corner, side = frame.areas[:, :2], frame.areas[:, 2:]
        images = np.array([pair.rgb.shape[1::-1] for pair in frame.images])
        self._resized = side[:, 0] > max_side
        first = np.clip(corner, 0, images - 1)
        count = np.clip(corner + side, first + 1, images) - first
        resized = self._resized[:, None]
        self._first, self._count = first, np.where(resized, frame.size, count)
        self._offset, self._side = np.where(resized, 0, corner - first), np.where(resized, frame.size, side)
        self.ends = np.cumsum(modalities * self._count.prod(axis=1))

    def copy_to(self, buffer: NDArray[np.uint8], positions: range) -> None:
        """Copy the windows of some of the videos to a buffer ``(pixels, 3)``."""
        frame = self._frame
        for number in positions:
            (left, top), (columns, rows) = self._first[number].tolist(), self._count[number].tolist()
            start = int(self.ends[number]) - self._modalities * rows * columns
            for image in frame.images[number][: self._modalities]:
                window = buffer[start : start + rows * columns].reshape(rows, columns, 3)
                if self._resized[number]:
                    window[...] = cut(image, frame.geometry(number))
                else:
                    window[...] = image[top : top + rows, left : left + columns]
                start += rows * columns

    def taps(self) -> Taps:
        """Return the taps of OpenCV's ``INTER_LINEAR``."""
        side, size = self._side, self._frame.size
        position = ((np.arange(size) + 0.5) * (side / size) - 0.5).astype(np.float32)
        before = np.floor(position)
        # Beyond the border OpenCV drops the fraction of columns, and weighs the border's row twice.
        beyond = (before < 0) | (before >= side - 1)
        fraction = np.stack([np.where(beyond, 0, position - before), position - before], axis=1)
        after = np.rint(fraction * TAP_UNITS).astype(np.int32)
        before = before.astype(np.int64)[:, None]
        neighbors = np.clip(np.stack([before, before + 1], axis=2), 0, side[:, :, None, None] - 1)
        # Pixels beyond the image repeat its border.
        last = self._count[:, :, None, None] - 1
        columns, rows = np.clip(neighbors + self._offset[:, :, None, None], 0, last).swapaxes(0, 1)
        pixels = self._count.prod(axis=1)
        starts = self.ends[:, None] - pixels[:, None] * np.arange(self._modalities, 0, -1)
        rows = starts[:, :, None, None] + (rows * self._count[:, :1, None])[:, None]
        return Taps(rows, columns, np.stack([TAP_UNITS - after, after], axis=2))
