"""Pairs by number and name, read when asked for and kept while memory lasts."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdistill.pair import Pair
from mmdistill.reference.data.pairs.memory import PairMemory
from mmdistill.reference.data.pairs.sources import Source
from mmdistill.reference.data.sequence import Image

MEMORY = 512 * 2**20
"""Bytes of decoded images that are kept."""


class Pairs:
    """Aligned pairs of images.

    A slice, such as ``pairs[:-30]``, is ``Pairs`` too; all slices share what is kept in memory.

    Args:
        root: where they were found.
        sources: for each pair's name where it is read, in order.
        problems: what was found that makes no pair, a line each.
        memory: bytes of decoded images that are kept, those least recently used given up first; a process keeps its
            own.

    Attributes:
        root: as given.
        names: of the pairs, unique.
        problems: as given.
    """

    def __init__(
        self, root: Path, sources: Mapping[str, Source], problems: Sequence[str] = (), *, memory: int = MEMORY
    ) -> None:
        self.root, self.names, self.problems = root, list(sources), list(problems)
        self._sources, self._memory = sources, PairMemory(memory)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, which: slice) -> Pairs:
        view = copy.copy(self)
        view.names = self.names[which]
        return view

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files of pair ``index``: RGB's and TIR's, or the one that holds both."""
        return tuple(self._sources[self.names[index]])

    def pair(self, index: int) -> Pair[Image]:
        """Return pair ``index``; its images are read-only.

        Raises:
            DataError: a file is no image, or the two differ in size.
        """
        name = self.names[index]
        return self._memory.get(name, self._sources[name].read)
