"""Keeping a sequence's frames in memory, for sources that are slower than memory and smaller than it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.data.sequence import Boxes, FramePair, TrackingSequence


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
