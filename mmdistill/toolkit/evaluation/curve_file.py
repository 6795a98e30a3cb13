"""Every sequence's curves on disk: from them a tracker's scores can be had again on any part of the sequences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np

from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError, printable
from mmdistill.toolkit.evaluation.metrics import (
    NORMALIZED_THRESHOLDS,
    PRECISION_THRESHOLDS,
    SUCCESS_THRESHOLDS,
    BenchmarkScores,
    Scores,
    gather,
    scores_of_curves,
)
from mmdistill.toolkit.evaluation.protocols import Rule
from mmdistill.toolkit.io import read_json, write_text

T = TypeVar("T")

CURVES = "curves.json"
"""What the file is called in the folder of a scored tracker."""

_FORMAT = "mmdistill-curves-2"
_MAX_FRAMES = 10**9
_KINDS: Mapping[type, str] = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "a flag"}
_LENGTHS = {
    "precision": len(PRECISION_THRESHOLDS),
    "normalized": len(NORMALIZED_THRESHOLDS),
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
        DataError: there is no such file, it is something else, or a field is missing or not what it must be; the
            message names the field.
    """
    content = read_json(path)
    try:
        if (found := _field(content, "format", str)) != _FORMAT:
            raise ValueError(f"format {printable(found, 40)!r} instead of {_FORMAT!r}")
        rule = _rule(_field(content, "rule", dict))
        sequences = {
            name: _scores(_typed(hits, dict, _named("sequences", name)), rule, _named("sequences", name))
            for name, hits in _field(content, "sequences", dict).items()
        }
        if not sequences:
            raise ValueError("no sequences")
        return gather(sequences, _having(_field(content, "having", dict), sequences), rule)
    except ValueError as error:
        raise DataError(f"{path}: expected curves as `mmdistill evaluate --out` writes them ({error})") from error


def _field(content: Mapping[str, Any], name: str, kind: type[T], where: str = "") -> T:
    """Return a field of a type; ValueError with its name where it is missing or of another type."""
    whole = f"{where}.{name}" if where else name
    if name not in content:
        raise ValueError(f"{whole} is missing")
    return _typed(content[name], kind, whole)


def _typed(value: Any, kind: type[T], where: str) -> T:
    if type(value) is not kind:  # True is no number
        raise ValueError(f"{where}: expected {_KINDS[kind]}, got {printable(repr(value), 40)}")
    return value


def _named(where: str, name: str) -> str:
    return f"{where}.{printable(name, 60)}"


def _rule(content: dict[str, Any]) -> Rule:
    """Return the rule, all of whose fields must be there: one that is left out would be another rule's."""
    kinds = get_type_hints(Rule)
    unknown = sorted(content.keys() - kinds.keys())
    if unknown:
        raise ValueError(f"{_named('rule', unknown[0])} is no field of a rule")
    for name, kind in kinds.items():
        choices = get_args(kind)
        value = _field(content, name, str if choices else kind, "rule")
        if choices and value not in choices:
            raise ValueError(f"rule.{name}: expected one of {', '.join(choices)}, got {printable(value, 40)!r}")
    if not 0 <= content["precision_threshold"] < len(PRECISION_THRESHOLDS):
        raise ValueError(f"rule.precision_threshold: expected 0 to 50, got {content['precision_threshold']}")
    return Rule(**content)


def _having(content: dict[str, Any], sequences: Mapping[str, Scores]) -> dict[str, tuple[str, ...]]:
    for attribute, names in content.items():
        where = _named("having", attribute)
        if len(set(map(str, _typed(names, list, where)))) < len(names):
            raise ValueError(f"{where}: a sequence is there twice")
        if any(type(name) is not str or name not in sequences for name in names):
            raise ValueError(f"{where}: expected names of sequences")
    return {attribute: tuple(names) for attribute, names in content.items()}


def _hits(scores: Scores) -> dict[str, Any]:
    counts = {name: np.rint(getattr(scores, name) * scores.frames / 100).astype(int).tolist() for name in _LENGTHS}
    return {"frames": scores.frames, **counts}


def _scores(content: Mapping[str, Any], rule: Rule, where: str) -> Scores:
    frames = _field(content, "frames", int, where)
    if not 1 <= frames <= _MAX_FRAMES:
        raise ValueError(f"{where}.frames: expected 1 to {_MAX_FRAMES:,}, got {frames:,}")
    curves: dict[str, Array] = {}
    for name, length in _LENGTHS.items():
        hits = _field(content, name, list, where)
        if len(hits) != length or any(type(each) is not int or not 0 <= each <= frames for each in hits):
            raise ValueError(f"{where}.{name}: expected {length} counts of up to {frames} frames")
        curves[name] = 100 * (np.array(hits, dtype=np.float64) / frames)
    return scores_of_curves(**curves, frames=frames, rule=rule)
