"""Finding and fitting raw result files, any tracker's."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmdistill.reference.data.box_files import read_boxes
from mmdistill.reference.data.sequence import Boxes
from mmdistill.reference.errors import DataError

_logger = logging.getLogger(__name__)


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
