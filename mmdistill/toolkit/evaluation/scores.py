"""Scores of sequences and benchmarks, their aggregation, and the JSON files that hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np

from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError, printable
from mmdistill.toolkit.datasets.coverage import Coverage
from mmdistill.toolkit.evaluation.protocols import (
    NORMALIZED_THRESHOLDS,
    PRECISION_THRESHOLDS,
    SUCCESS_THRESHOLDS,
    ScoringProtocol,
)
from mmdistill.toolkit.io import read_json, write_text

T = TypeVar("T")

CURVES_FILE = "curves.json"
"""Name of the file of curves in the folder of a scored tracker."""

_NPR_INDEX = 20  # of the threshold 0.2
_FORMAT = "mmdistill-curves-2"
_MAX_FRAMES = 10**9
_TYPE_NAMES: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    bool: "a flag",
}
_CURVE_LENGTHS = {
    "precision": len(PRECISION_THRESHOLDS),
    "normalized": len(NORMALIZED_THRESHOLDS),
    "success": len(SUCCESS_THRESHOLDS),
}


@dataclass(frozen=True)
class Scores:
    """A tracker's scores on one or more sequences, percent.

    Attributes:
        PR: precision rate, the share of frames with a small center error; see ``metrics.precision_curve``.
        NPR: normalized precision rate; see ``metrics.normalized_precision_curve``.
        SR: success rate, the area under the success curve; see ``metrics.success_curve``.
        precision: the curve over ``PRECISION_THRESHOLDS``, ``(51,)``.
        normalized: the curve over ``NORMALIZED_THRESHOLDS``, ``(51,)``.
        success: the curve over ``SUCCESS_THRESHOLDS``, ``(21,)``.
        frames: number of counted frames.
    """

    PR: float
    NPR: float
    SR: float
    precision: Array
    normalized: Array
    success: Array
    frames: int

    def rates(self) -> dict[str, float]:
        """Return PR, NPR and SR by name, percent, rounded to four decimals."""
        return {"PR": round(self.PR, 4), "NPR": round(self.NPR, 4), "SR": round(self.SR, 4)}


@dataclass(frozen=True)
class BenchmarkScores:
    """A tracker's scores on a benchmark.

    Attributes:
        protocol: how the boxes were scored.
        overall: scores on all sequences.
        sequences: scores by sequence name.
        attributes: scores by attribute, on the sequences that have the attribute in any frame.
        attribute_sequences: names of these sequences, by attribute.
    """

    protocol: ScoringProtocol
    overall: Scores
    sequences: dict[str, Scores]
    attributes: dict[str, Scores]
    attribute_sequences: dict[str, tuple[str, ...]]

    def to_json(self, coverage: Coverage | None = None) -> str:
        """Return benchmark, coverage, protocol (``rule``), and all scores in percent, as JSON."""
        content = {
            "benchmark": self.protocol.benchmark,
            **({} if coverage is None else coverage.to_json()),
            "rule": self.protocol.description,
            "overall": self.overall.rates(),
            "sequences": {name: scores.rates() for name, scores in self.sequences.items()},
            "attributes": {name: scores.rates() for name, scores in self.attributes.items()},
        }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def aggregate(
    sequences: Mapping[str, Scores], attribute_sequences: Mapping[str, Sequence[str]], protocol: ScoringProtocol
) -> BenchmarkScores:
    """Return benchmark scores from the scores of sequences.

    Args:
        sequences: at least one, by name.
        attribute_sequences: names of the sequences that have an attribute, by attribute. Names that are not in
            ``sequences`` are ignored, and so are attributes without a sequence.
        protocol: how the sequences were scored.
    """
    present = {
        attribute: tuple(name for name in names if name in sequences)
        for attribute, names in attribute_sequences.items()
    }
    present = {attribute: names for attribute, names in present.items() if names}
    return BenchmarkScores(
        protocol=protocol,
        overall=_average(list(sequences.values()), protocol),
        sequences=dict(sequences),
        attributes={
            attribute: _average([sequences[name] for name in names], protocol) for attribute, names in present.items()
        },
        attribute_sequences=present,
    )


def scores_from_curves(
    *, precision: Array, normalized: Array, success: Array, frames: int, protocol: ScoringProtocol
) -> Scores:
    """Return PR, NPR and SR of curves in percent."""
    midpoints = (success[1:] + success[:-1]) / 2
    return Scores(
        PR=float(precision[protocol.precision_threshold]),
        NPR=float(normalized[_NPR_INDEX] if protocol.normalized == "share" else normalized.mean()),
        SR=float(success.mean() if protocol.success == "mean" else midpoints.mean()),
        precision=precision,
        normalized=normalized,
        success=success,
        frames=frames,
    )


def _average(group: list[Scores], protocol: ScoringProtocol) -> Scores:
    """Return the scores of several sequences; PR, NPR and SR are linear in the curves, so averaging these is enough."""
    frames = [scores.frames for scores in group]
    weights = frames if protocol.aggregation == "pooled" else None
    return scores_from_curves(
        precision=np.average([scores.precision for scores in group], axis=0, weights=weights),
        normalized=np.average([scores.normalized for scores in group], axis=0, weights=weights),
        success=np.average([scores.success for scores in group], axis=0, weights=weights),
        frames=sum(frames),
        protocol=protocol,
    )


def save_scores(path: str | Path, scores: BenchmarkScores, coverage: Coverage | None = None) -> None:
    """Write ``scores.to_json(coverage)`` to a file, whole or not at all."""
    write_text(path, scores.to_json(coverage))


def save_curves(path: str | Path, scores: BenchmarkScores) -> None:
    """Write the protocol and, by sequence, the number of hits at each threshold, whole or not at all.

    Counts lose nothing: ``read_curves`` returns the same scores to the last bit.
    """
    content = {
        "format": _FORMAT,
        "rule": asdict(scores.protocol),
        "having": scores.attribute_sequences,
        "sequences": {name: _to_counts(each) for name, each in scores.sequences.items()},
    }
    write_text(path, json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")


def read_curves(path: str | Path) -> BenchmarkScores:
    """Read a file of ``save_curves``.

    Raises:
        DataError: there is no such file, or a field is missing or invalid; the message names the field.
    """
    content = read_json(path)
    try:
        if (file_format := _field(content, "format", str)) != _FORMAT:
            raise ValueError(f"format {printable(file_format, 40)!r} instead of {_FORMAT!r}")
        protocol = _read_protocol(_field(content, "rule", dict))
        sequences = {
            name: _from_counts(_typed(counts, dict, _path("sequences", name)), protocol, _path("sequences", name))
            for name, counts in _field(content, "sequences", dict).items()
        }
        if not sequences:
            raise ValueError("no sequences")
        attribute_sequences = _read_attributes(_field(content, "having", dict), sequences)
        return aggregate(sequences, attribute_sequences, protocol)
    except ValueError as error:
        raise DataError(f"{path}: expected curves as `mmdistill score --out` writes them ({error})") from error


def _field(content: Mapping[str, Any], name: str, kind: type[T], parent: str = "") -> T:
    """Return a field of a type.

    Raises:
        ValueError: the field is missing or of another type.
    """
    path = f"{parent}.{name}" if parent else name
    if name not in content:
        raise ValueError(f"{path} is missing")
    return _typed(content[name], kind, path)


def _typed(value: Any, kind: type[T], path: str) -> T:
    if type(value) is not kind:  # True is no number
        raise ValueError(f"{path}: expected {_TYPE_NAMES[kind]}, got {printable(repr(value), 40)}")
    return value


def _path(parent: str, name: str) -> str:
    return f"{parent}.{printable(name, 60)}"


def _read_protocol(content: dict[str, Any]) -> ScoringProtocol:
    """Return the protocol; all fields are required, because a default could differ from the one scored by."""
    types = get_type_hints(ScoringProtocol)
    unknown = sorted(content.keys() - types.keys())
    if unknown:
        raise ValueError(f"{_path('rule', unknown[0])} is no field of a scoring protocol")
    for name, kind in types.items():
        choices = get_args(kind)
        value = _field(content, name, str if choices else kind, "rule")
        if choices and value not in choices:
            raise ValueError(f"rule.{name}: expected one of {', '.join(choices)}, got {printable(value, 40)!r}")
    if not 0 <= content["precision_threshold"] < len(PRECISION_THRESHOLDS):
        raise ValueError(f"rule.precision_threshold: expected 0 to 50, got {content['precision_threshold']}")
    return ScoringProtocol(**content)


def _read_attributes(content: dict[str, Any], sequences: Mapping[str, Scores]) -> dict[str, tuple[str, ...]]:
    for attribute, names in content.items():
        path = _path("having", attribute)
        if len(set(map(str, _typed(names, list, path)))) < len(names):
            raise ValueError(f"{path}: a sequence is named twice")
        if any(type(name) is not str or name not in sequences for name in names):
            raise ValueError(f"{path}: expected names of sequences")
    return {attribute: tuple(names) for attribute, names in content.items()}


def _to_counts(scores: Scores) -> dict[str, Any]:
    counts = {
        name: np.rint(getattr(scores, name) * scores.frames / 100).astype(int).tolist() for name in _CURVE_LENGTHS
    }
    return {"frames": scores.frames, **counts}


def _from_counts(content: Mapping[str, Any], protocol: ScoringProtocol, path: str) -> Scores:
    frames = _field(content, "frames", int, path)
    if not 1 <= frames <= _MAX_FRAMES:
        raise ValueError(f"{path}.frames: expected 1 to {_MAX_FRAMES:,}, got {frames:,}")
    curves: dict[str, Array] = {}
    for name, length in _CURVE_LENGTHS.items():
        counts = _field(content, name, list, path)
        if len(counts) != length or any(type(each) is not int or not 0 <= each <= frames for each in counts):
            raise ValueError(f"{path}.{name}: expected {length} counts of up to {frames} frames")
        curves[name] = 100 * (np.array(counts, dtype=np.float64) / frames)
    return scores_from_curves(**curves, frames=frames, protocol=protocol)
