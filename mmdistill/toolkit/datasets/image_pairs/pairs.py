"""Pairs by number and name, read when asked for and kept while memory lasts.

Where one pair is read: two files, or one that holds both images side by side.

Images with RGB in the left half and TIR in the right: how they are told from images of one modality.

Decoded pairs kept in memory, up to a budget.
"""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError, DataIssues, printable
from mmdistill.toolkit.datasets.folder_sequence import STRAY
from mmdistill.toolkit.images import read_image
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.video import TirResizer


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


MAX_EXAMINED = 8
"""How many images are read to decide."""

MAX_GRAY_CHROMA = 10.0
"""Gray levels between the channels of a pixel that JPEG makes of gray."""

MIN_COLOR_CHROMA = 24.0
"""Gray levels between the channels of the most colorful pixels of a color image."""

_SEAM = 16
"""Columns beside the middle into which JPEG carries color."""


def why_not_side_by_side(paths: Sequence[Path]) -> str | None:
    """Return why images can't be taken for RGB and TIR side by side, or None if they can.

    Of up to eight images each must have an even width and a gray right half, and most must have color in the left half.

    Args:
        paths: the images, at least one.
    """
    step = max(1, len(paths) // MAX_EXAMINED)
    examined = paths[::step][:MAX_EXAMINED]
    colored = 0
    for path in examined:
        try:
            image = read_image(path)
        except DataError:
            return f"{printable(path.name)} can't be read"
        if image.shape[1] % 2:
            return f"{printable(path.name)} has an odd width of {image.shape[1]}"
        left, right = halves(image)
        if not is_gray(right):
            return f"the right half of {printable(path.name)} has color, so it is no TIR"
        colored += _chroma(left) >= MIN_COLOR_CHROMA
    if 2 * colored <= len(examined):
        return "the left halves are as gray as the right ones"
    return None


def halves(image: Image) -> tuple[Image, Image]:
    """Return both halves of an image of even width."""
    middle = image.shape[1] // 2
    return image[:, :middle], image[:, middle:]


def is_gray(right: Image) -> bool:
    """Return whether the right half of an image holds no color."""
    return _chroma(right[:, min(_SEAM, right.shape[1] // 2) :]) <= MAX_GRAY_CHROMA


def _chroma(image: NDArray[np.uint8]) -> float:
    """Return how far the channels of the most colorful hundredth of the pixels differ at least, gray levels."""
    some = image[:: max(1, image.shape[0] // 256), :: max(1, image.shape[1] // 256)]
    return float(np.percentile(some.max(axis=2) - some.min(axis=2), 99)) if some.size else 0.0


class Source(Protocol):
    """Reads one pair; iterates over its files."""

    def __iter__(self) -> Iterator[Path]: ...

    def read(self) -> Pair[Image]:
        """Return two images, which may differ in size, or raise DataError."""
        ...


class TwoFiles(NamedTuple):
    """An RGB file and a TIR file."""

    rgb: Path
    tir: Path

    def read(self) -> Pair[Image]:
        """Return both images, each of its own size.

        Raises:
            DataError: a file is no image.
        """
        return Pair(read_image(self.rgb), read_image(self.tir))


class SideBySide:
    """A file with the RGB image in its left half and the TIR image in its right one.

    Args:
        path: the file.
        check: whether color in the right half is an error.
    """

    def __init__(self, path: Path, *, check: bool) -> None:
        self.path, self.check = path, check

    def __iter__(self) -> Iterator[Path]:
        return iter((self.path,))

    def read(self) -> Pair[Image]:
        """Return both halves.

        Raises:
            DataError: the file is no image, its width can't be halved, or the TIR half has color.
        """
        image = read_image(self.path)
        if image.shape[1] % 2:
            raise DataError(
                f"{self.path}: expected RGB and TIR of one size side by side, got an odd width of {image.shape[1]}"
            )
        left, right = halves(image)
        if self.check and not is_gray(right):
            raise DataError(f"{self.path}: expected TIR in the right half, it has color; --side-by-side takes it so")
        # Copies: a half that is kept shall not keep the whole.
        return Pair(np.ascontiguousarray(left), np.ascontiguousarray(right))


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
        self._one_size = TirResizer(self.title, _no_usual_size, warn)

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

    def note_left_out(self, data_issues: DataIssues) -> None:
        """Note files without a partner, folders that were passed over, and what a system left."""
        for kind, found in ((ALONE, self.problems), (PASSED_OVER, self.passed_over), (STRAY, self.stray)):
            for each in found:
                data_issues.add(kind, printable(each))

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
