"""Decoded pairs kept in memory, up to a budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from mmdistill.pair import Pair
from mmdistill.reference.data.sequence import Image


class PairMemory:
    """Keeps pairs of images; those least recently used go first. Threads may share it.

    Args:
        budget: bytes of images that are kept.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._kept: OrderedDict[str, Pair[Image]] = OrderedDict()
        self._used = 0
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[PairMemory], tuple[int]]:
        """Another process starts with an empty one."""
        return PairMemory, (self.budget,)

    def get(self, name: str, read: Callable[[], Pair[Image]]) -> Pair[Image]:
        """Return the pair of this name, read if it is not here; read-only, because all who ask share it."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        pair = read()
        for image in pair:
            image.setflags(write=False)
        with self._lock:
            if name not in self._kept:
                self._kept[name] = pair
                self._used += _bytes(pair)
            while self._used > self.budget:
                self._used -= _bytes(self._kept.popitem(last=False)[1])
        return pair


def _bytes(pair: Pair[Image]) -> int:
    return pair.rgb.nbytes + pair.tir.nbytes
