"""Raw result files, any tracker's: one box per frame and line."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from mmdistill.reference.data.boxes import enclosing
from mmdistill.reference.data.sequence import Boxes
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import write_text

_logger = logging.getLogger(__name__)
_SEPARATOR = re.compile(r"\s*,\s*|\s+")


def read_boxes(path: str | Path) -> Boxes:
    """Read a result file.

    Lines hold ``x y w h``, or the corners of a quadrilateral ``x1 y1 ... x4 y4`` that becomes its enclosing box;
    commas, tabs or spaces separate the numbers. A tracker that failed may have written ``nan``.

    Args:
        path: the file.

    Returns:
        Boxes ``(T, 4)`` as ``x y w h``, pixels.

    Raises:
        DataError: no such file, an empty one, or a line that is something else.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a text file of boxes ({error})") from error
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


def write_boxes(path: str | Path, boxes: ArrayLike) -> None:
    """Write boxes ``(T, 4)``, pixels, as lines ``x,y,w,h`` to a thousandth of a pixel, whole or not at all."""
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"{path}: boxes to write must be (frames, 4), got {boxes.shape}")
    write_text(path, "".join(",".join(f"{value:.3f}" for value in box) + "\n" for box in boxes))


def find_result(folder: str | Path, name: str) -> Path:
    """Return a sequence's result file: ``<name>.txt`` or, prefixed by the tracker's name, ``<prefix>_<name>.txt``.

    Args:
        folder: where one tracker's result files are.
        name: the sequence's name.

    Raises:
        DataError: no such folder, no such file, or several that could be meant.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of result files, found none")
    exact = folder / f"{name}.txt"
    if exact.is_file():
        return exact
    # Of ADRNet_walking.txt and ADRNet_man_walking.txt, "walking" is the one with the shorter prefix.
    candidates = sorted((path for path in folder.iterdir() if path.name.endswith(f"_{name}.txt")), key=_length)
    if not candidates:
        raise DataError(f"{folder}: no result for sequence {name}, expected {name}.txt or <tracker>_{name}.txt")
    if len(candidates) > 1 and _length(candidates[0]) == _length(candidates[1]):
        raise DataError(f"{folder}: {candidates[0].name} and {candidates[1].name} could both be sequence {name}")
    return candidates[0]


def _length(path: Path) -> int:
    return len(path.name)


def fit_length(boxes: Boxes, frames: int, *, where: str | Path) -> Boxes:
    """Return the boxes of exactly ``frames`` frames.

    Some published results miss the last frame, which repeats the box before it, and some go on after it, which
    is cut off; both are logged.

    Args:
        boxes: ``(T, 4)``.
        frames: how many frames the ground truth has.
        where: the file the boxes are from, named in messages.

    Raises:
        DataError: more than one box is missing.
    """
    if len(boxes) == frames:
        return boxes
    if len(boxes) < frames - 1:
        raise DataError(f"{where}: expected a box for each of {frames} frames, got {len(boxes)}")
    if len(boxes) > frames:
        _logger.warning("%s: %d boxes for %d frames, the rest is cut off", where, len(boxes), frames)
        return boxes[:frames]
    _logger.warning("%s: %d boxes for %d frames, the last is repeated", where, len(boxes), frames)
    return np.concatenate([boxes, boxes[-1:]])


def read_results(folder: str | Path, frames: Mapping[str, int]) -> dict[str, Boxes]:
    """Read one tracker's results for a benchmark.

    Args:
        folder: where its result files are.
        frames: for each sequence's name, how many frames it has.

    Returns:
        For each name the boxes ``(frames, 4)``.

    Raises:
        DataError: a result is missing, ambiguous, malformed or too short.
    """
    paths = {name: find_result(folder, name) for name in frames}
    return {name: fit_length(read_boxes(path), frames[name], where=path) for name, path in paths.items()}
