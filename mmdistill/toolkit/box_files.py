"""Boxes in text files, one a line: ground truth and raw results alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mmdistill.toolkit.boxes import Array, enclosing
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import read_text, write_text
from mmdistill.toolkit.sequence import Boxes

_SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")
_CODE = re.compile(r"\s*([012])(\.0*)?\s*[,;]?\s*")
_MAX_CODE_LENGTH = 16  # characters of a line that may be a code
_DECIMAL_COMMAS = re.compile(r"\s*[+-]?\d+,\d+((\s*;\s*|\s+)[+-]?\d+,\d+){3}\s*;?\s*")


def read_boxes(path: str | Path) -> Boxes:
    """Read boxes ``(T, 4)`` as ``x y w h``, pixels.

    Lines hold ``x y w h``, or the corners of a quadrilateral ``x1 y1 ... x4 y4`` that becomes its enclosing box;
    commas, semicolons, tabs or spaces separate the numbers, and one may stand after the last. A line of ``nan`` is a
    frame without a label, or one in which a tracker failed.

    Raises:
        DataError: no such file, an empty one, or a line that is something else; the message has its number.
    """
    return to_boxes(read_rows(path))


def to_boxes(rows: Array) -> Boxes:
    """Return the boxes ``(T, 4)`` of rows ``(T, 4)`` or ``(T, 8)``, pixels, as ``read_boxes`` does."""
    return rows if rows.shape[1] == 4 else enclosing(rows)


def read_rows(path: str | Path, *, empty: Literal["refused", "nan"] = "refused") -> Array:
    """Read the numbers of a file of boxes, ``(T, 4)`` or ``(T, 8)`` as they stand there.

    Args:
        path: the file.
        empty: what an empty line between others is: an error, or a frame without a box, a row of NaN.

    Raises:
        DataError: as ``read_boxes``.
    """
    return _parse(_lines(path), path, empty)


def read_result_rows(path: str | Path) -> tuple[Array, list[int]]:
    """Read the numbers of a tracker's result file, in which frames without a box may be empty lines or VOT's codes.

    A line that is 0, 1 or 2 alone is such a code: 1 where the tracker was started, 2 where it failed, 0 where it was
    not run before it was started again.

    Returns:
        The rows ``(T, 4)`` or ``(T, 8)``, of NaN in frames without a box; and the codes, in order.

    Raises:
        DataError: as ``read_boxes``, or a file of codes alone.
    """
    lines = _lines(path)
    codes = [match if len(line) <= _MAX_CODE_LENGTH and (match := _CODE.fullmatch(line)) else None for line in lines]
    found = [int(code[1]) for code in codes if code]
    if found:
        lines = ["" if code else line for line, code in zip(lines, codes, strict=True)]
        if not any(map(str.strip, lines)):
            raise DataError(f"{path}: expected a box per line, got 0, 1 and 2 alone")
    return _parse(lines, path, "nan"), found


def _lines(path: str | Path) -> list[str]:
    lines = read_text(path).rstrip().splitlines()
    if not lines:
        raise DataError(f"{path}: expected a box per line, got an empty file")
    return lines


def _parse(lines: list[str], path: str | Path, empty: Literal["refused", "nan"]) -> Array:
    if empty == "nan":
        empty_lines = [line.strip().casefold() in ("", "nan") for line in lines]
        widths = (len(_words(line)) for line, blank in zip(lines, empty_lines, strict=True) if not blank)
        row = " ".join(["nan"] * next((width for width in widths if width in (4, 8)), 4))
        lines = [row if blank else line for line, blank in zip(lines, empty_lines, strict=True)]
    rows = _rows(lines)
    if rows is not None:
        return rows
    rows = _row_by_row(lines, path)
    if rows.shape[1] == 8:
        _refuse_decimal_commas(lines, path)
    return rows


def _refuse_decimal_commas(lines: list[str], path: str | Path) -> None:
    """Refuse ``12,5;20,5;30,5;40,5`` on every line: 4 numbers in much of Europe, and 8 to everyone else."""
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if re.search(r"\d", line)]
    if numbered and all(_DECIMAL_COMMAS.fullmatch(line) for _, line in numbered):
        number, line = numbered[0]
        raise DataError(
            f"{path}, line {number}: {line.strip()[:60]!r} may be 4 numbers with decimal commas, or 8; expected "
            "decimal points, and one separator"
        )


def _rows(lines: list[str]) -> Array | None:
    """Return all rows at once; None where they must be looked at one by one."""
    delimiter = next((each for each in ",;" if each in lines[0]), None)
    try:
        rows = np.loadtxt(lines, delimiter=delimiter, comments=None, ndmin=2)
    except ValueError:
        return None
    return rows if rows.shape[1] in (4, 8) and len(rows) == len(lines) else None


def _row_by_row(lines: list[str], path: str | Path) -> Array:
    """Return the rows, one after the other, or name the line that is wrong."""
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = [float(value) for value in _words(line)]
        except ValueError:
            row = []
        allowed = (len(rows[0]),) if rows else (4, 8)
        if len(row) not in allowed:
            expected = f"{allowed[0]} numbers" if rows else "4 numbers (x y w h) or 8 (corners)"
            raise DataError(f"{path}, line {number}: expected {expected}, got {line.strip()[:60]!r}")
        rows.append(row)
    return np.array(rows)


def _words(line: str) -> list[str]:
    return _SEPARATOR.split(re.sub(r"\s*[,;]?\s*$", "", line).lstrip())


def write_boxes(path: str | Path, boxes: ArrayLike, *, decimals: int | None = None) -> None:
    """Write boxes ``(T, 4)``, pixels, as lines ``x,y,w,h``, whole or not at all; exactly if no decimals are given."""
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"{path}: boxes to write must be (frames, 4), got {boxes.shape}")
    form = (lambda value: repr(float(value))) if decimals is None else (lambda value: f"{value:.{decimals}f}")
    write_text(path, "".join(",".join(map(form, box)) + "\n" for box in boxes))
