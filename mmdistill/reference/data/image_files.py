"""A folder's images in order. Data sets have a million of them, so names are kept, and paths made as needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import overload

from mmdistill.reference.data.natural_order import natural_order as natural_order  # here for those who sort by it
from mmdistill.reference.data.natural_order import sort_naturally
from mmdistill.reference.errors import DataError

logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

_SAME_DIGIT = bytes.maketrans(b"123456789", b"000000000")


class ImageFiles(Sequence[Path]):
    """Files of one folder.

    Args:
        folder: where they lie.
        names: their names, in the order of the frames.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, names

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> ImageFiles: ...
    def __getitem__(self, index: int | slice) -> Path | ImageFiles:
        """Return a file, or some of them."""
        if isinstance(index, slice):
            return ImageFiles(self.folder, self.names[index])
        return self.folder / self.names[index]


def list_images(folder: str | Path, say: Callable[[str], object] = logger.warning) -> ImageFiles:
    """Return a folder's images in natural order of their names (``2.jpg`` before ``10.jpg``); hidden files don't count.

    Args:
        folder: where they lie.
        say: takes a message about names whose order can be read in two ways; see ``sort_naturally``.

    Raises:
        DataError: the folder is missing or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of images, there is none")
    names = [name for name in os.listdir(folder) if _is_image(name)]  # noqa: PTH208 - names take a tenth of the time
    if not names:
        raise DataError(f"{folder}: expected images ({' '.join(sorted(SUFFIXES))}), the folder has none")
    # Sorting by text takes a tenth of the time, and mostly it is the same.
    return ImageFiles(folder, sorted(names) if _alike(names) else sort_naturally(names, str, str(folder), say))


def _is_image(name: str) -> bool:
    return name[0] != "." and name[name.rfind(".") :].lower() in SUFFIXES


def _alike(names: Sequence[str]) -> bool:
    """Whether names differ in digits alone, place by place, so that numbers are ordered as texts are."""
    joined = "\0".join((*names, "")).encode("utf-8", "surrogateescape").translate(_SAME_DIGIT)
    return joined == joined[: joined.index(b"\0") + 1] * len(names)
