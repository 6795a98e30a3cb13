"""Reads and writes text files with one box per line: annotations and raw results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mmdistill.toolkit.boxes import Array, enclosing_boxes
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import read_text, write_text
from mmdistill.toolkit.sequence import Boxes

_SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")
_CODE = re.compile(r"\s*([012])(\.0*)?\s*[,;]?\s*")
_MAX_CODE_LENGTH = 16  # characters
_DECIMAL_COMMAS = re.compile(r"\s*[+-]?\d+,\d+((\s*;\s*|\s+)[+-]?\d+,\d+){3}\s*;?\s*")


def read_boxes(path: str | Path) -> Boxes:
    """Read boxes ``(T, 4)`` as ``x y w h``, pixels.

    A line is ``x y w h``, or the corners ``x1 y1 ... x4 y4`` of a quadrilateral, which becomes its enclosing box.
    Commas, semicolons, tabs or spaces separate the numbers; one may follow the last. A line of ``nan`` is a frame
    without a label, or without a result.

    Raises:
        DataError: the file is missing or empty, or a line is malformed; the message has the line number.
    """
    return to_boxes(read_rows(path))


def to_boxes(rows: Array) -> Boxes:
    """Return rows ``(T, 4)`` as they are, and the enclosing boxes ``(T, 4)`` of corners ``(T, 8)``."""
    return rows if rows.shape[1] == 4 else enclosing_boxes(rows)


def read_rows(path: str | Path, *, empty: Literal["refused", "nan"] = "refused") -> Array:
    """Read the numbers of a file of boxes: ``(T, 4)`` or ``(T, 8)``, see ``read_boxes``.

    Args:
        path: the file.
        empty: treat an empty line between others as an error (``refused``) or as a frame without a box (``nan``).

    Raises:
        DataError: as ``read_boxes``.
    """
    return _parse(_lines(path), path, empty)


def read_result_rows(path: str | Path) -> tuple[Array, list[int]]:
    """Read the numbers of a tracker's result file, in which frames without a box may be empty lines or VOT codes.

    A line of 0, 1 or 2 alone is a code: 1 in a frame where the tracker starts, 2 where it fails, 0 where it is
    skipped before the next start.

    Returns:
        The rows ``(T, 4)`` or ``(T, 8)``, NaN in frames without a box; and the codes, in order.

    Raises:
        DataError: as ``read_boxes``, or the file has codes only.
    """
    lines = _lines(path)
    matches = [match if len(line) <= _MAX_CODE_LENGTH and (match := _CODE.fullmatch(line)) else None for line in lines]
    codes = [int(match[1]) for match in matches if match]
    if codes:
        lines = ["" if match else line for line, match in zip(lines, matches, strict=True)]
        if not any(map(str.strip, lines)):
            raise DataError(f"{path}: expected a box per line, got the codes 0, 1 and 2 only")
    return _parse(lines, path, "nan"), codes


def _lines(path: str | Path) -> list[str]:
    lines = read_text(path).rstrip().splitlines()
    if not lines:
        raise DataError(f"{path}: expected a box per line, got an empty file")
    return lines


def _parse(lines: list[str], path: str | Path, empty: Literal["refused", "nan"]) -> Array:
    if empty == "nan":
        is_empty = [line.strip().casefold() in ("", "nan") for line in lines]
        counts = (len(_split(line)) for line, empty_line in zip(lines, is_empty, strict=True) if not empty_line)
        nan_row = " ".join(["nan"] * next((count for count in counts if count in (4, 8)), 4))
        lines = [nan_row if empty_line else line for line, empty_line in zip(lines, is_empty, strict=True)]
    rows = _parse_all(lines)
    if rows is not None:
        return rows
    rows = _parse_each(lines, path)
    if rows.shape[1] == 8:
        _refuse_decimal_commas(lines, path)
    return rows


def _refuse_decimal_commas(lines: list[str], path: str | Path) -> None:
    """Refuse files of lines like ``12,5;20,5;30,5;40,5``: 4 numbers with decimal commas, or 8 whole numbers."""
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if re.search(r"\d", line)]
    if numbered and all(_DECIMAL_COMMAS.fullmatch(line) for _, line in numbered):
        number, line = numbered[0]
        raise DataError(
            f"{path}, line {number}: {line.strip()[:60]!r} may be 4 numbers with decimal commas, or 8; expected "
            "decimal points, and one separator"
        )


def _parse_all(lines: list[str]) -> Array | None:
    """Return the rows of a file of uniform lines, parsed by NumPy; None for other files."""
    delimiter = next((each for each in ",;" if each in lines[0]), None)
    try:
        rows = np.loadtxt(lines, delimiter=delimiter, comments=None, ndmin=2)
    except ValueError:
        return None
    return rows if rows.shape[1] in (4, 8) and len(rows) == len(lines) else None


def _parse_each(lines: list[str], path: str | Path) -> Array:
    """Return the rows, parsed line by line, or raise an error with the number of the malformed line."""
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = [float(value) for value in _split(line)]
        except ValueError:
            row = []
        allowed = (len(rows[0]),) if rows else (4, 8)
        if len(row) not in allowed:
            expected = f"{allowed[0]} numbers" if rows else "4 numbers (x y w h) or 8 (corners)"
            raise DataError(f"{path}, line {number}: expected {expected}, got {line.strip()[:60]!r}")
        rows.append(row)
    return np.array(rows)


def _split(line: str) -> list[str]:
    return _SEPARATOR.split(re.sub(r"\s*[,;]?\s*$", "", line).lstrip())


def write_boxes(path: str | Path, boxes: ArrayLike, *, decimals: int | None = None) -> None:
    """Write boxes ``(T, 4)``, pixels, as lines ``x,y,w,h``; the file is replaced at once.

    Args:
        path: the file.
        boxes: ``(T, 4)``.
        decimals: digits after the point; all by default.

    Raises:
        DataError: the boxes have another shape.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"{path}: expected boxes (frames, 4) to write, got {boxes.shape}")
    format_number = (lambda value: repr(float(value))) if decimals is None else (lambda value: f"{value:.{decimals}f}")
    write_text(path, "".join(",".join(map(format_number, box)) + "\n" for box in boxes))
