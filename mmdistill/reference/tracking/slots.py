"""Slots: the places on the sequence axis of a tracker's state, each for one video at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmdistill.reference.device import upload

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
