"""Where one pair is read: two files, or one that holds both images side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from mmdistill.pair import Pair
from mmdistill.reference.data.images import read_image
from mmdistill.reference.data.pairs.side_by_side import halves, is_gray
from mmdistill.reference.data.sequence import Image
from mmdistill.reference.errors import DataError


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
