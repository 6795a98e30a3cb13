"""The samples that the filter learns from, and how much each weighs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmdistill.reference.data.boxes import Array
from mmdistill.reference.tracking.settings import LearningSettings


class SampleMemory:
    """Samples of S sequences in memory that is allocated once: the first frame's, which stay, then later frames'.

    A new sample takes a free slot while there is one, then that of the later sample that weighs least.

    Args:
        features: the first frames' classification features ``(N, S, C, H, W)``.
        boxes: the targets in them ``(N, S, 4)``, ``x y w h`` in crop pixels.
        settings: how many samples are kept, and how they are weighed.

    Attributes:
        weights: ``(memory, S)``, summing to 1 over each sequence's samples; 0 in free slots.
    """

    def __init__(self, features: Tensor, boxes: Tensor, settings: LearningSettings) -> None:
        self._initial, sequences = features.shape[:2]
        self._settings = settings
        self._features = features.new_zeros(settings.memory, *features.shape[1:])
        self._boxes = boxes.new_zeros(settings.memory, *boxes.shape[1:])
        self._features[: self._initial] = features
        self._boxes[: self._initial] = boxes
        self._counts = [self._initial] * sequences
        self._newest: list[int | None] = [None] * sequences
        self.weights = np.zeros((settings.memory, sequences))
        self.weights[: self._initial] = 1 / self._initial

    def add(self, sequence: int, features: Tensor, box: Tensor, rate: float) -> None:
        """Keep a sample of one sequence.

        Args:
            sequence: which, from 0.
            features: ``(C, H, W)``.
            box: the target ``(4,)``, ``x y w h`` in crop pixels.
            rate: what share of the past it takes over.
        """
        weights = self.weights[:, sequence]
        slot = self._slot(sequence)
        self._features[slot, sequence] = features
        self._boxes[slot, sequence] = box
        self.weights[:, sequence] = reweighed(
            weights, slot, self._newest[sequence], rate, self._initial, self._settings.initial_share
        )
        self._newest[sequence] = slot
        self._counts[sequence] = max(self._counts[sequence], slot + 1)

    def samples(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return features ``(M, S, C, H, W)``, boxes ``(M, S, 4)`` and weights ``(M, S)`` of the slots in use."""
        used = max(self._counts)
        weights = torch.from_numpy(self.weights[:used]).to(self._boxes)
        return self._features[:used], self._boxes[:used], weights

    def _slot(self, sequence: int) -> int:
        count = self._counts[sequence]
        if count < self._settings.memory:
            return count
        return self._initial + int(self.weights[self._initial :, sequence].argmin())


def reweighed(weights: Array, slot: int, newest: int | None, rate: float, initial: int, initial_share: float) -> Array:
    """Return a sequence's weights ``(memory,)`` with a new sample among them, summing to 1.

    The new sample outweighs the newest so far by ``1 / (1 - rate)``; as all weights are normalised, older ones fade.

    Args:
        weights: those so far.
        slot: where the new sample goes.
        newest: the slot of the newest so far; None if there are only the first frame's.
        rate: what share of the past the new sample takes over.
        initial: how many samples are the first frame's.
        initial_share: what they weigh together at least, equally shared then.
    """
    weights = weights.copy()
    if newest is None:
        weights /= 1 - rate
        weights[slot] = rate
    else:
        weights[slot] = weights[newest] / (1 - rate)
    weights /= weights.sum()
    if weights[:initial].sum() < initial_share:
        weights[initial:] *= (1 - initial_share) / weights[initial:].sum()
        weights[:initial] = initial_share / initial
    return weights
