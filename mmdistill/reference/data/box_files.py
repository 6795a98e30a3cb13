"""Boxes in text files, one a line: ground truth and raw results alike."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from mmdistill.reference.data.boxes import enclosing
from mmdistill.reference.data.sequence import Boxes
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import write_text

_SEPARATOR = re.compile(r"\s*,\s*|\s+")


def read_boxes(path: str | Path) -> Boxes:
    """Read boxes ``(T, 4)`` as ``x y w h``, pixels.

    Lines hold ``x y w h``, or the corners of a quadrilateral ``x1 y1 ... x4 y4`` that becomes its enclosing box;
    commas, tabs or spaces separate the numbers. A line of ``nan`` is a frame without a label, or one in which a
    tracker failed.

    Raises:
        DataError: no such file, an empty one, or a line that is something else; the message has its number.
    """
    lines = read_text(path).rstrip().splitlines()
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = [float(value) for value in _SEPARATOR.split(line.strip())]
        except ValueError:
            row = []
        allowed = (len(rows[0]),) if rows else (4, 8)
        if len(row) not in allowed:
            expected = f"{allowed[0]} numbers" if rows else "4 numbers (x y w h) or 8 (corners)"
            raise DataError(f"{path}, line {number}: expected {expected}, got {line.strip()[:60]!r}")
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: expected a box per line, got an empty file")
    boxes = np.array(rows)
    return boxes if boxes.shape[1] == 4 else enclosing(boxes)


def write_boxes(path: str | Path, boxes: ArrayLike, *, decimals: int | None = None) -> None:
    """Write boxes ``(T, 4)``, pixels, as lines ``x,y,w,h``, whole or not at all; exactly if no decimals are given."""
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"{path}: boxes to write must be (frames, 4), got {boxes.shape}")
    form = (lambda value: repr(float(value))) if decimals is None else (lambda value: f"{value:.{decimals}f}")
    write_text(path, "".join(",".join(map(form, box)) + "\n" for box in boxes))


def read_text(path: str | Path) -> str:
    """Return a text file's content; DataError where it cannot be read as UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected a text file, byte {error.start} is no UTF-8") from error
