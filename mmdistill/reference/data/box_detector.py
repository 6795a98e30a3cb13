"""Boxes that a detector found elsewhere, read from files as if it ran here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from mmdistill.reference.errors import DataError
from mmdistill.reference.files import read_text

Detections = tuple[Tensor, Tensor, Tensor]
"""Boxes ``(P, 4)`` as ``x y w h`` in pixels, scores and labels ``(P,)``."""

_SEPARATOR = re.compile(r"\s*,\s*|\s+")


class BoxFiles:
    """A folder with a text file per image, lines of ``x y w h [score [label]]``; an empty file is an image without any.

    Image ``1.png`` has its boxes in ``1.txt``, and ``set00/V000/I00000.jpg`` in ``set00/V000/I00000.txt``. Commas, tabs
    or spaces separate. A box without a score has the score 1. Labels may be words; nobody reads them, so all are 0.

    Args:
        folder: where the files are.

    Raises:
        DataError: there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{folder}: expected a folder of box files, there is none")

    def read(self, name: str) -> Detections:
        """Return the boxes of the image of this name.

        Raises:
            DataError: it has no file, or a line is something else; the message has its number.
        """
        path = self.folder / PurePosixPath(name).with_suffix(".txt")
        boxes, scores = [], []
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            if not line.strip():
                continue
            try:
                values = [float(word) for word in _SEPARATOR.split(line.strip())[:5]]
            except ValueError:
                values = []
            if len(values) < 4 or not all(map(math.isfinite, values)):
                raise DataError(f"{path}, line {number}: expected x y w h [score [label]], got {line.strip()[:60]!r}")
            boxes.append(values[:4])
            scores.append(values[4] if len(values) > 4 else 1.0)
        return torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.zeros(len(boxes), dtype=torch.long)

    def detector(self, name: str) -> Callable[[Tensor], Detections]:
        """Return a detector that finds in any image the boxes of the image of this name."""
        return lambda image: self.read(name)  # noqa: ARG005
