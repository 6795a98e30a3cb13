"""Where one pair is read: two files, or one that holds both images side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from mmdistill.pair import Pair
from mmdistill.reference.data.images import read_image
from mmdistill.reference.data.sequence import Image
from mmdistill.reference.errors import DataError


class Source(Protocol):
    """Reads one pair; iterates over its files."""

    def __iter__(self) -> Iterator[Path]: ...

    def read(self) -> Pair[Image]:
        """Return two images of one size, or raise DataError."""
        ...


class TwoFiles(NamedTuple):
    """An RGB file and a TIR file."""

    rgb: Path
    tir: Path

    def read(self) -> Pair[Image]:
        """Return both images.

        Raises:
            DataError: a file is no image, or the two differ in size.
        """
        rgb, tir = read_image(self.rgb), read_image(self.tir)
        if rgb.shape != tir.shape:
            sizes = " and ".join(f"{image.shape[1]} x {image.shape[0]}" for image in (rgb, tir))
            raise DataError(f"{self.rgb}: expected the size of its partner {self.tir}, got {sizes}")
        return Pair(rgb, tir)


class SideBySide(NamedTuple):
    """A file with the RGB image in its left half and the TIR image in its right one."""

    path: Path

    def read(self) -> Pair[Image]:
        """Return both halves.

        Raises:
            DataError: the file is no image, or its width can't be halved.
        """
        image = read_image(self.path)
        if image.shape[1] % 2:
            raise DataError(
                f"{self.path}: expected RGB and TIR of one size side by side, got an odd width of {image.shape[1]}"
            )
        # Copies: a half that is kept shall not keep the whole.
        return Pair(*(np.ascontiguousarray(half) for half in np.split(image, 2, axis=1)))
