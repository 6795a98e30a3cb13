"""The samples that the filters learn from, and how much each weighs.

Slots: the places on the sequence axis of a tracker's state, each for one video at a time.
"""

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
"""Which slots, ``(s,)``, ascending, each once."""

T = TypeVar("T", bound=tuple[Tensor, ...])


def all_of(slots: Slots, count: int) -> bool:
    """Return whether these are all there are."""
    return len(slots) == count


class SlotTensors(Generic[T]):
    """A named tuple of tensors ``(S, ...)``, one row per slot, in memory that is allocated once.

    Args:
        count: S.
    """

    _rows: T | None = None

    def __init__(self, count: int) -> None:
        self._count = count

    def __getitem__(self, slots: Slots) -> T:
        """Return the rows of some slots; all of them are handed out as they are, without a copy."""
        assert self._rows is not None
        if all_of(slots, self._count):
            return self._rows
        index = upload(slots, self._rows[0].device)
        return _like(self._rows, [tensor.index_select(0, index) for tensor in self._rows])

    def __setitem__(self, slots: Slots, rows: T) -> None:
        """Store the rows of some slots."""
        if self._rows is None:
            self._rows = _like(rows, [row.new_zeros(self._count, *row.shape[1:]) for row in rows])
        index = upload(slots, self._rows[0].device)
        for tensor, row in zip(self._rows, rows, strict=True):
            if row is not tensor:  # as it was handed out, and unchanged
                tensor.index_copy_(0, index, row.to(tensor))


def _like(example: T, tensors: Sequence[Tensor]) -> T:
    return type(example)(*tensors)


class SampleMemory:
    """Samples of S sequences in memory that is allocated once: the first frame's, which stay, then later frames'.

    A new sample takes a free place while there is one, then that of the later sample that weighs least.

    Args:
        sequences: S.
        initial: how many samples a first frame gives.
        settings: how many samples are kept, and how they are weighed.

    Attributes:
        weights: ``(memory, S)``, summing to 1 over each sequence's samples; 0 in free places.
    """

    _features: Tensor
    _boxes: Tensor

    def __init__(self, sequences: int, initial: int, settings: LearningSettings) -> None:
        self._initial, self._settings = initial, settings
        self._counts = np.zeros(sequences, dtype=int)
        self._newest = np.full(sequences, -1)
        self.weights = np.zeros((settings.memory, sequences))

    def start(self, sequence: int, features: Tensor, boxes: Tensor) -> None:
        """Forget a sequence's samples and keep these of its first frame, equally weighed.

        Args:
            sequence: which, from 0.
            features: ``(initial, C, H, W)``.
            boxes: the targets in them ``(initial, 4)``, ``x y w h`` in crop pixels.
        """
        if not self._counts.any():
            shape = (self._settings.memory, len(self._counts))
            self._features = features.new_zeros(*shape, *features.shape[1:])
            self._boxes = boxes.new_zeros(*shape, 4)
        # What an earlier sequence left has no weight, but must not be there: not a number times 0 is not 0.
        self._features[:, sequence], self._boxes[:, sequence] = 0, 0
        self._features[: self._initial, sequence] = features
        self._boxes[: self._initial, sequence] = boxes
        self._counts[sequence], self._newest[sequence] = self._initial, -1
        self.weights[:, sequence] = 0
        self.weights[: self._initial, sequence] = 1 / self._initial

    def add(self, sequences: Slots, features: Tensor, boxes: Tensor, rates: Array) -> None:
        """Keep a sample of each of some sequences.

        Args:
            sequences: which, ``(s,)``.
            features: ``(s, C, H, W)``.
            boxes: the targets ``(s, 4)``, ``x y w h`` in crop pixels.
            rates: what share of the past each takes over, ``(s,)``.
        """
        for number, (sequence, rate) in enumerate(zip(sequences.tolist(), rates.tolist(), strict=True)):
            place = self._place(sequence)
            self._features[place, sequence] = features[number]
            self._boxes[place, sequence] = boxes[number]
            self.weights[:, sequence] = reweighed(
                self.weights[:, sequence],
                place,
                self._newest[sequence],
                rate,
                self._initial,
                self._settings.initial_share,
            )
            self._newest[sequence] = place
            self._counts[sequence] = max(self._counts[sequence], place + 1)

    def samples(self, sequences: Slots) -> tuple[Tensor, Tensor, Array]:
        """Return features ``(M, s, C, H, W)``, boxes ``(M, s, 4)`` and weights ``(M, s)`` of the places in use."""
        used = self._counts[sequences].max()
        features, boxes, weights = self._features[:used], self._boxes[:used], self.weights[:used]
        if all_of(sequences, len(self._counts)):
            return features, boxes, weights
        index = upload(sequences, features.device)
        return features.index_select(1, index), boxes.index_select(1, index), weights[:, sequences]

    def _place(self, sequence: int) -> int:
        count = int(self._counts[sequence])
        if count < self._settings.memory:
            return count
        return self._initial + int(self.weights[self._initial :, sequence].argmin())


def reweighed(weights: Array, place: int, newest: int, rate: float, initial: int, initial_share: float) -> Array:
    """Return a sequence's weights ``(memory,)`` with a new sample among them, summing to 1.

    The new sample outweighs the newest so far by ``1 / (1 - rate)``; as all weights are normalized, older ones fade.

    Args:
        weights: those so far.
        place: where the new sample goes.
        newest: the place of the newest so far; -1 if there are only the first frame's.
        rate: what share of the past the new sample takes over.
        initial: how many samples are the first frame's.
        initial_share: what they weigh together at least, equally shared then.
    """
    weights = weights.copy()
    if newest < 0:
        weights /= 1 - rate
        weights[place] = rate
    else:
        weights[place] = weights[newest] / (1 - rate)
    weights /= weights.sum()
    if weights[:initial].sum() < initial_share:
        weights[initial:] *= (1 - initial_share) / weights[initial:].sum()
        weights[:initial] = initial_share / initial
    return weights
