"""Annotations on disk: boxes in text files, attributes in JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.data.boxes import enclosing
from mmdistill.reference.data.sequence import Boxes
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import write_text


def read_boxes(path: str | Path) -> Boxes:
    """Read boxes ``(T, 4)``, one a line: ``x y w h``, or a polygon's four corners, of which the enclosing box is taken.

    Commas, tabs and spaces separate the numbers. A line of NaN is a frame without a label.

    Raises:
        DataError: the file is missing or empty, or a line is malformed; the message has its number.
    """
    path = Path(path)
    lines = read_text(path).rstrip().splitlines()
    if not lines:
        raise DataError(f"{path}: expected a box a line, the file is empty")
    rows = [_numbers(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise DataError(f"{path}, line {number}: expected {len(rows[0])} numbers as in line 1, got {len(row)}")
    boxes = np.array(rows, dtype=np.float64)
    return boxes if boxes.shape[1] == 4 else enclosing(boxes)


def write_boxes(path: str | Path, boxes: Boxes) -> None:
    """Write boxes ``(T, 4)`` as ``x,y,w,h``, a line each, exactly."""
    write_text(path, "".join(",".join(repr(float(value)) for value in box) + "\n" for box in boxes))


def read_attributes(path: str | Path, length: int) -> dict[str, NDArray[np.bool_]]:
    """Read ``{name: [0 or 1 per frame]}`` for a sequence of ``length`` frames.

    Raises:
        DataError: the file is not that.
    """
    path = Path(path)
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected {{name: [0 or 1 per frame]}}, got a {type(content).__name__}")
    for name, flags in content.items():
        if not isinstance(flags, list) or len(flags) != length or any(flag not in (0, 1) for flag in flags):
            raise DataError(f"{path}: expected {length} flags 0 or 1 for {name!r}, one a frame")
    return {name: np.array(flags, dtype=bool) for name, flags in content.items()}


def write_attributes(path: str | Path, attributes: dict[str, NDArray[np.bool_]]) -> None:
    """Write attributes, a flag per frame each, as ``read_attributes`` reads them."""
    write_text(path, json.dumps({name: flags.astype(int).tolist() for name, flags in attributes.items()}))


def read_text(path: Path) -> str:
    """Return a text file's content; DataError where it cannot be read as UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected a text file, byte {error.start} is no UTF-8") from error


def _numbers(line: str, where: str) -> list[float]:
    try:
        numbers = [float(field) for field in re.split(r"[\s,]+", line.strip())]
    except ValueError:
        numbers = []
    if len(numbers) not in (4, 8) or not (np.isfinite(numbers).all() or np.isnan(numbers).all()):
        raise DataError(f"{where}: expected 4 numbers x y w h or 8 of a polygon, got {line.strip()[:60]!r}")
    return numbers
