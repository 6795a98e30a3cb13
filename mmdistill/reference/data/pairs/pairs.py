"""Pairs by number and name, read when asked for and kept while memory lasts."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmdistill.pair import Pair
from mmdistill.reference.data.folders import STRAY
from mmdistill.reference.data.frames.one_size import OneSize
from mmdistill.reference.data.pairs.memory import PairMemory
from mmdistill.reference.data.pairs.sources import Source
from mmdistill.reference.data.sequence import Image
from mmdistill.reference.errors import DataError, printable
from mmdistill.reference.oddities import Oddities

logger = logging.getLogger(__name__)

MEMORY = 512 * 2**20
"""Bytes of decoded images that are kept."""

MIN_SIDE = 9
"""Pixels of the shorter side of an image that video can be composed from: a target of 4 pixels and 2 around it."""

ALONE = "files and folders that make no pair, left out"
PASSED_OVER = "folders with images that belong to no pair by their names, passed over"


class Pairs:
    """Aligned pairs of images.

    A slice, such as ``pairs[:-30]``, is ``Pairs`` too; all slices share what is kept in memory.

    Args:
        root: where they were found.
        sources: for each pair's name where it is read, in order.
        problems: what was found that makes no pair, a line each.
        title: what messages call them; the root if not given.
        passed_over: folders of images that belong to no pair by their names, a line each.
        stray: files and folders that a system left among them.
        splits: folders that hold the two folders of a pair.
        memory: bytes of decoded images that are kept, those least recently used given up first; a process keeps its
            own.
        warn: takes a warning of TIR images that are resized to the size of their RGB images.

    Attributes:
        root, problems, title, passed_over, stray, splits: as given.
        names: of the pairs, unique.
    """

    def __init__(
        self,
        root: Path,
        sources: Mapping[str, Source],
        problems: Sequence[str] = (),
        *,
        title: str | None = None,
        passed_over: Sequence[str] = (),
        stray: Sequence[Path] = (),
        splits: Sequence[Path] = (),
        memory: int = MEMORY,
        warn: Callable[[str], object] = logger.warning,
    ) -> None:
        self.root, self.names, self.problems = root, list(sources), list(problems)
        self.title = printable(root) if title is None else title
        self.passed_over, self.stray, self.splits = list(passed_over), list(stray), list(splits)
        self._sources, self._memory = sources, PairMemory(memory)
        self._sizes: dict[str, tuple[Path, tuple[int, int]]] = {}
        self._one_size = OneSize(self.title, _no_usual_size, warn)

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
        """Return pair ``index``, TIR resized to RGB's size; its images are read-only.

        Raises:
            DataError: a file is no image.
        """
        name = self.names[index]
        return self._memory.get(name, lambda: self._read(name))

    def large_pair(self, index: int) -> Pair[Image]:
        """Return pair ``index`` as ``pair`` does, if both images had ``MIN_SIDE`` pixels before they were resized.

        Raises:
            DataError: a file is no image, or is smaller.
        """
        pair = self.pair(index)
        path, (width, height) = self._sizes[self.names[index]]
        if min(width, height) < MIN_SIDE:
            raise DataError(
                f"{path}: expected an image of at least {MIN_SIDE} x {MIN_SIDE} pixels, got {width} x {height}"
            )
        return pair

    def note_left_out(self, oddities: Oddities) -> None:
        """Note files without a partner, folders that were passed over, and what a system left."""
        for kind, found in ((ALONE, self.problems), (PASSED_OVER, self.passed_over), (STRAY, self.stray)):
            for each in found:
                oddities.add(kind, printable(each))

    def _read(self, name: str) -> Pair[Image]:
        source = self._sources[name]
        pair = source.read()
        files = list(source)
        sizes = [(image.shape[1], image.shape[0]) for image in pair]
        smallest = min((0, 1), key=lambda side: min(sizes[side]))
        self._sizes[name] = files[smallest if len(files) > 1 else 0], sizes[smallest]
        frame = self._one_size(Pair(pair.rgb, pair.tir))
        assert frame.tir is not None
        return Pair(pair.rgb, frame.tir)


def _no_usual_size() -> tuple[int, int]:
    raise AssertionError("every pair has an RGB image")
