"""The state of a tracker on its device: tensors with one row per slot, and the sample memory of each slot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmdistill.reference.device import upload
from mmdistill.reference.tracking.settings import LearningSettings
from mmdistill.toolkit.boxes import Array

Slots = NDArray[np.int64]
"""Indices of slots ``(s,)``, ascending, each once."""

T = TypeVar("T", bound=tuple[Tensor, ...])


class SlotTensors(Generic[T]):
    """A named tuple of tensors ``(S, ...)`` with one row per slot, in memory that is allocated once.

    Args:
        slots: S, the number of slots.
    """

    _rows: T | None = None

    def __init__(self, slots: int) -> None:
        self._count = slots

    def __getitem__(self, slots: Slots) -> T:
        """Return the rows of some slots; the rows of all slots are returned without a copy."""
        assert self._rows is not None
        if len(slots) == self._count:
            return self._rows
        index = upload(slots, self._rows[0].device)
        return _like(self._rows, [tensor.index_select(0, index) for tensor in self._rows])

    def __setitem__(self, slots: Slots, rows: T) -> None:
        """Store the rows of some slots."""
        if self._rows is None:
            self._rows = _like(rows, [row.new_zeros(self._count, *row.shape[1:]) for row in rows])
        index = upload(slots, self._rows[0].device)
        for tensor, row in zip(self._rows, rows, strict=True):
            if row is not tensor:  # returned by __getitem__ and unchanged
                tensor.index_copy_(0, index, row.to(tensor))


def _like(example: T, tensors: Sequence[Tensor]) -> T:
    return type(example)(*tensors)


class SampleMemory:
    """The samples from which each slot's target model learns, in memory that is allocated once.

    The first frame's samples stay. A later sample takes a free row, or replaces the later sample of the lowest weight.

    Args:
        slots: S, the number of slots.
        initial: number of samples of a first frame.
        settings: memory size and weights.

    Attributes:
        weights: ``(memory, S)``, summing to 1 over each slot's samples; 0 in free rows.
    """

    _features: Tensor
    _boxes: Tensor

    def __init__(self, slots: int, initial: int, settings: LearningSettings) -> None:
        self._initial, self._settings = initial, settings
        self._counts = np.zeros(slots, dtype=int)
        self._newest = np.full(slots, -1)
        self.weights = np.zeros((settings.memory, slots))

    def start(self, slot: int, features: Tensor, boxes: Tensor) -> None:
        """Replace a slot's samples by those of a first frame, with equal weights.

        Args:
            slot: index of the slot.
            features: ``(initial, C, H, W)``.
            boxes: the targets ``(initial, 4)``, ``x y w h`` in crop pixels.
        """
        if not self._counts.any():
            shape = (self._settings.memory, len(self._counts))
            self._features = features.new_zeros(*shape, *features.shape[1:])
            self._boxes = boxes.new_zeros(*shape, 4)
        # Samples of an earlier video have weight 0, but NaN times 0 is not 0.
        self._features[:, slot], self._boxes[:, slot] = 0, 0
        self._features[: self._initial, slot] = features
        self._boxes[: self._initial, slot] = boxes
        self._counts[slot], self._newest[slot] = self._initial, -1
        self.weights[:, slot] = 0
        self.weights[: self._initial, slot] = 1 / self._initial

    def add(self, slots: Slots, features: Tensor, boxes: Tensor, rates: Array) -> None:
        """Add one sample to each of some slots.

        Args:
            slots: indices of the slots, ``(s,)``.
            features: ``(s, C, H, W)``.
            boxes: the targets ``(s, 4)``, ``x y w h`` in crop pixels.
            rates: learning rates ``(s,)``, below 1.
        """
        for number, (slot, rate) in enumerate(zip(slots.tolist(), rates.tolist(), strict=True)):
            row = self._free_row(slot)
            self._features[row, slot] = features[number]
            self._boxes[row, slot] = boxes[number]
            self.weights[:, slot] = updated_weights(
                self.weights[:, slot], row, self._newest[slot], rate, self._initial, self._settings.initial_share
            )
            self._newest[slot] = row
            self._counts[slot] = max(self._counts[slot], row + 1)

    def samples(self, slots: Slots) -> tuple[Tensor, Tensor, Array]:
        """Return features ``(M, s, C, H, W)``, boxes ``(M, s, 4)`` and weights ``(M, s)`` of the rows in use."""
        used = self._counts[slots].max()
        features, boxes, weights = self._features[:used], self._boxes[:used], self.weights[:used]
        if len(slots) == len(self._counts):
            return features, boxes, weights
        index = upload(slots, features.device)
        return features.index_select(1, index), boxes.index_select(1, index), weights[:, slots]

    def _free_row(self, slot: int) -> int:
        count = int(self._counts[slot])
        if count < self._settings.memory:
            return count
        return self._initial + int(self.weights[self._initial :, slot].argmin())


def updated_weights(weights: Array, row: int, newest: int, rate: float, initial: int, initial_share: float) -> Array:
    """Return the weights ``(memory,)`` of a slot's samples with a new sample, summing to 1.

    The new sample weighs ``1 / (1 - rate)`` times as much as the newest before it. Normalization lowers all others.

    Args:
        weights: the weights before.
        row: the row of the new sample.
        newest: the row of the newest later sample; -1 if there is none.
        rate: learning rate, below 1.
        initial: number of the first frame's samples.
        initial_share: the least total weight of the first frame's samples, which then share it equally.
    """
    weights = weights.copy()
    if newest < 0:
        weights /= 1 - rate
        weights[row] = rate
    else:
        weights[row] = weights[newest] / (1 - rate)
    weights /= weights.sum()
    if weights[:initial].sum() < initial_share:
        weights[initial:] *= (1 - initial_share) / weights[initial:].sum()
        weights[:initial] = initial_share / initial
    return weights
