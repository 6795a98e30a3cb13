"""Every sequence's curves on disk: from them a tracker's scores can be had again on any part of the sequences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mmdistill.reference.data.box_files import read_text
from mmdistill.reference.data.boxes import Array
from mmdistill.reference.errors import DataError
from mmdistill.reference.evaluation.rules import Rule
from mmdistill.reference.evaluation.scores import (
    NORMALISED_THRESHOLDS,
    PRECISION_THRESHOLDS,
    SUCCESS_THRESHOLDS,
    BenchmarkScores,
    Scores,
    gather,
    scores_of_curves,
)
from mmdistill.reference.files import write_text

CURVES = "curves.json"
"""What the file is called in the folder of a scored tracker."""

_FORMAT = "mmdistill-curves-1"
_LENGTHS = {
    "precision": len(PRECISION_THRESHOLDS),
    "normalised": len(NORMALISED_THRESHOLDS),
    "success": len(SUCCESS_THRESHOLDS),
}


def save_curves(path: str | Path, scores: BenchmarkScores) -> None:
    """Write the rule and, sequence by sequence, how many frames hit at each threshold, whole or not at all.

    Whole numbers, so that nothing is lost: ``read_curves`` gives the same scores to the last bit.
    """
    content = {
        "format": _FORMAT,
        "rule": asdict(scores.rule),
        "having": scores.having,
        "sequences": {name: _hits(each) for name, each in scores.sequences.items()},
    }
    write_text(path, json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")


def read_curves(path: str | Path) -> BenchmarkScores:
    """Read what ``save_curves`` wrote.

    Raises:
        DataError: there is no such file, or it is something else.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r} instead of {_FORMAT!r}")
        rule = Rule(**content["rule"])
        sequences = {str(name): _scores(hits, rule) for name, hits in content["sequences"].items()}
        having: Mapping[str, Sequence[str]] = {str(name): tuple(having) for name, having in content["having"].items()}
        if not sequences:
            raise ValueError("no sequences")
        return gather(sequences, having, rule)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: expected curves as `mmdistill evaluate --out` writes them ({error})") from error


def _hits(scores: Scores) -> dict[str, Any]:
    counts = {name: np.rint(getattr(scores, name) * scores.frames / 100).astype(int).tolist() for name in _LENGTHS}
    return {"frames": scores.frames, **counts}


def _scores(content: Mapping[str, Any], rule: Rule) -> Scores:
    frames = int(content["frames"])
    curves: dict[str, Array] = {}
    for name, length in _LENGTHS.items():
        hits = np.array(content[name], dtype=np.float64)
        if hits.shape != (length,) or not ((hits >= 0) & (hits <= frames)).all():
            raise ValueError(f"{name}: expected {length} counts of up to {frames} frames")
        curves[name] = 100 * (hits / frames)
    return scores_of_curves(**curves, frames=frames, rule=rule)
