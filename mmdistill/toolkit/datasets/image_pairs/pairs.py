"""Reads aligned image pairs by index, from two files or one side-by-side image each, through a cache in memory."""

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
from mmdistill.toolkit.alignment.alignment import Alignment
from mmdistill.toolkit.alignment.coverage import largest_rectangle
from mmdistill.toolkit.data_issues import DataError, DataIssues, printable
from mmdistill.toolkit.image_files import IGNORED
from mmdistill.toolkit.images import read_image
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.video import TirResizer

logger = logging.getLogger(__name__)

DEFAULT_CACHE_BYTES = 512 * 2**20
"""Size of the cache of decoded images, bytes."""

MIN_SIDE = 9
"""Shortest side of an image for composing video, pixels: a target of 4 pixels and 2 around it."""

UNMATCHED = "files and folders that make no pair, left out"
SKIPPED = "folders with images that belong to no pair by their names, skipped"

MAX_EXAMINED = 8
"""Maximum number of images that are read to detect side-by-side images."""

MAX_GRAY_CHROMA = 10.0
"""Largest difference between the channels of a gray image after JPEG compression, gray levels."""

MIN_COLOR_CHROMA = 24.0
"""Smallest difference between the channels of the most colorful pixels of a color image, gray levels."""

_SEAM_WIDTH = 16
"""Columns beside the middle into which JPEG carries color."""


class PairCache:
    """A cache of pairs of images that drops the least recently used ones; threads may share it.

    Args:
        size: maximum size of the images, bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._pairs: OrderedDict[str, Pair[Image]] = OrderedDict()
        self._used = 0
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[PairCache], tuple[int]]:
        """Another process starts with an empty cache."""
        return PairCache, (self.size,)

    def get(self, name: str, read: Callable[[], Pair[Image]]) -> Pair[Image]:
        """Return the pair of a name, read if it is not cached; its images are read-only, because callers share them."""
        with self._lock:
            if name in self._pairs:
                self._pairs.move_to_end(name)
                return self._pairs[name]
        pair = read()
        for image in pair:
            image.setflags(write=False)
        with self._lock:
            if name not in self._pairs:
                self._pairs[name] = pair
                self._used += _size_of(pair)
            while self._used > self.size:
                self._used -= _size_of(self._pairs.popitem(last=False)[1])
        return pair


def _size_of(pair: Pair[Image]) -> int:
    return pair.rgb.nbytes + pair.tir.nbytes


def side_by_side_problem(paths: Sequence[Path]) -> str | None:
    """Return why images are not RGB and TIR side by side, or None if they are.

    Up to eight images are read. Each must have an even width and a gray right half; most must have a colored left half.

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
    """Return the left and the right half of an image of even width."""
    middle = image.shape[1] // 2
    return image[:, :middle], image[:, middle:]


def is_gray(right: Image) -> bool:
    """Return whether the right half of an image is gray."""
    return _chroma(right[:, min(_SEAM_WIDTH, right.shape[1] // 2) :]) <= MAX_GRAY_CHROMA


def _chroma(image: NDArray[np.uint8]) -> float:
    """Return the 99th percentile of the differences between the channels of a pixel, gray levels."""
    sample = image[:: max(1, image.shape[0] // 256), :: max(1, image.shape[1] // 256)]
    return float(np.percentile(sample.max(axis=2) - sample.min(axis=2), 99)) if sample.size else 0.0


class PairSource(Protocol):
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
    """An image with RGB in the left half and TIR in the right half.

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
            DataError: the file is no image, its width is odd, or the TIR half has color.
        """
        image = read_image(self.path)
        if image.shape[1] % 2:
            raise DataError(
                f"{self.path}: expected RGB and TIR of one size side by side, got an odd width of {image.shape[1]}"
            )
        left, right = halves(image)
        if self.check and not is_gray(right):
            raise DataError(f"{self.path}: expected TIR in the right half, it has color; --side-by-side accepts it")
        # Copies, so that a cached half does not keep the whole image in memory.
        return Pair(np.ascontiguousarray(left), np.ascontiguousarray(right))


class Pairs:
    """Aligned pairs of images.

    A slice, such as ``pairs[:-30]``, is ``Pairs`` too; all slices share one cache. With an alignment, both images are
    cropped to the largest rectangle that TIR covers.

    Args:
        root: the folder that was searched.
        sources: the source of each pair by its name, in order.
        problems: files and folders without a counterpart, a line each.
        title: name for messages; the root by default.
        skipped: folders of images that belong to no pair by their names, a line each.
        ignored: hidden and system files and folders.
        parent_folders: folders that contain an RGB and a TIR folder of pairs.
        cache_bytes: size of the cache of decoded images, bytes; each process has its own.
        warn: receives a warning of TIR images that are resized to the size of their RGB images.
        alignment: how the two cameras of all pairs agree; without it TIR is resized.

    Raises:
        DataError: TIR covers no part of RGB's frame.

    Attributes:
        root, problems, title, skipped, ignored, parent_folders: see above.
        names: names of the pairs, unique.
    """

    def __init__(
        self,
        root: Path,
        sources: Mapping[str, PairSource],
        problems: Sequence[str] = (),
        *,
        title: str | None = None,
        skipped: Sequence[str] = (),
        ignored: Sequence[Path] = (),
        parent_folders: Sequence[Path] = (),
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        warn: Callable[[str], object] = logger.warning,
        alignment: Alignment | None = None,
    ) -> None:
        self.root, self.names, self.problems = root, list(sources), list(problems)
        self.title = printable(root) if title is None else title
        self.skipped, self.ignored, self.parent_folders = list(skipped), list(ignored), list(parent_folders)
        self._sources, self._cache = sources, PairCache(cache_bytes)
        self._smallest: dict[str, tuple[Path, tuple[int, int]]] = {}  # file and size of each pair's smaller image
        self._one_size = TirResizer(self.title, _no_usual_size, warn, alignment)
        self._covered = None if alignment is None else largest_rectangle(alignment.mask)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, which: slice) -> Pairs:
        view = copy.copy(self)
        view.names = self.names[which]
        return view

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files of pair ``index``: RGB's and TIR's, or one with both images."""
        return tuple(self._sources[self.names[index]])

    def pair(self, index: int) -> Pair[Image]:
        """Return pair ``index``, TIR at RGB's size; its images are read-only.

        Raises:
            DataError: a file is no image.
        """
        name = self.names[index]
        return self._cache.get(name, lambda: self._read(name))

    def large_pair(self, index: int) -> Pair[Image]:
        """Return pair ``index`` like ``pair``, but refuse files with a side below ``MIN_SIDE`` pixels.

        Raises:
            DataError: a file is no image, or is too small.
        """
        pair = self.pair(index)
        path, (width, height) = self._smallest[self.names[index]]
        if min(width, height) < MIN_SIDE:
            raise DataError(
                f"{path}: expected an image of at least {MIN_SIDE} x {MIN_SIDE} pixels, got {width} x {height}"
            )
        return pair

    def report_skipped(self, data_issues: DataIssues) -> None:
        """Add files and folders without a counterpart, skipped folders, and ignored files to the data issues."""
        for kind, entries in ((UNMATCHED, self.problems), (SKIPPED, self.skipped), (IGNORED, self.ignored)):
            for entry in entries:
                data_issues.add(kind, printable(entry))

    def _read(self, name: str) -> Pair[Image]:
        source = self._sources[name]
        pair = source.read()
        files = list(source)
        sizes = [(image.shape[1], image.shape[0]) for image in pair]
        smallest = min((0, 1), key=lambda side: min(sizes[side]))
        self._smallest[name] = files[smallest if len(files) > 1 else 0], sizes[smallest]
        try:
            frame = self._one_size(Pair(pair.rgb, pair.tir))
        except DataError as error:
            raise DataError(f"{files[-1]}: {error}") from error
        assert frame.tir is not None
        if self._covered is None:
            return Pair(pair.rgb, frame.tir)
        rgb, tir = (np.ascontiguousarray(image[self._covered]) for image in (pair.rgb, frame.tir))
        return Pair(rgb, tir)


def _no_usual_size() -> tuple[int, int]:
    raise AssertionError("every pair has an RGB image")
