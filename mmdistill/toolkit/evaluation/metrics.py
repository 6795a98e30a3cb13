"""From boxes to precision rate (PR), normalized precision rate (NPR) and success rate (SR).

What a tracker scores: curves, and the figures that a rule reads off them, of a sequence or of several together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.toolkit.boxes import Array, centers, intersection_over_union
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.coverage import Coverage
from mmdistill.toolkit.evaluation.protocols import Rule
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.sequence import Boxes, TrackingSequence

PRECISION_THRESHOLDS = np.linspace(0, 50, 51)
"""Center errors in pixels, the horizontal axis of precision plots."""

NORMALIZED_THRESHOLDS = np.linspace(0, 0.5, 51)
"""Center errors in target sizes, the horizontal axis of normalized precision plots."""

SUCCESS_THRESHOLDS = np.linspace(0, 1, 21)
"""Overlaps (IoU), the horizontal axis of success plots."""

_NORMALIZED_RATE_AT = 20  # the index of 0.2


@dataclass(frozen=True)
class Scores:
    """What a tracker scores on a sequence, or on several together; everything in percent.

    Attributes:
        PR: precision rate.
        NPR: normalized precision rate.
        SR: success rate.
        precision: the curve over ``PRECISION_THRESHOLDS``, ``(51,)``.
        normalized: the curve over ``NORMALIZED_THRESHOLDS``, ``(51,)``.
        success: the curve over ``SUCCESS_THRESHOLDS``, ``(21,)``.
        frames: how many frames were counted.
    """

    PR: float
    NPR: float
    SR: float
    precision: Array
    normalized: Array
    success: Array
    frames: int

    def figures(self) -> dict[str, float]:
        """Return PR, NPR and SR by name."""
        return {"PR": round(self.PR, 4), "NPR": round(self.NPR, 4), "SR": round(self.SR, 4)}


@dataclass(frozen=True)
class BenchmarkScores:
    """What a tracker scores on a benchmark.

    Attributes:
        rule: the rule it was scored by.
        overall: all sequences together.
        sequences: each sequence by name.
        attributes: for each attribute the sequences that have it on any frame, together.
        having: for each attribute those sequences' names.
    """

    rule: Rule
    overall: Scores
    sequences: dict[str, Scores]
    attributes: dict[str, Scores]
    having: dict[str, tuple[str, ...]]

    def to_json(self, coverage: Coverage | None = None) -> str:
        """Return benchmark, what is scored, rule, overall, sequences and attributes as JSON; figures in percent."""
        content = {
            "benchmark": self.rule.benchmark,
            **({} if coverage is None else coverage.to_json()),
            "rule": self.rule.description,
            "overall": self.overall.figures(),
            "sequences": {name: scores.figures() for name, scores in self.sequences.items()},
            "attributes": {name: scores.figures() for name, scores in self.attributes.items()},
        }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def save_scores(path: str | Path, scores: BenchmarkScores, coverage: Coverage | None = None) -> None:
    """Write ``scores.to_json(coverage)`` to ``path``, whole or not at all."""
    write_text(path, scores.to_json(coverage))


def gather(sequences: Mapping[str, Scores], having: Mapping[str, Sequence[str]], rule: Rule) -> BenchmarkScores:
    """Put the scores of sequences together.

    Args:
        sequences: by name, at least one.
        having: for each attribute the names of the sequences that have it; others than the given are ignored, and so
            is an attribute that none of them has.
        rule: how all of them were scored.
    """
    present = {attribute: tuple(name for name in names if name in sequences) for attribute, names in having.items()}
    present = {attribute: names for attribute, names in present.items() if names}
    return BenchmarkScores(
        rule=rule,
        overall=_together(list(sequences.values()), rule),
        sequences=dict(sequences),
        attributes={
            attribute: _together([sequences[name] for name in names], rule) for attribute, names in present.items()
        },
        having=present,
    )


def scores_of_curves(*, precision: Array, normalized: Array, success: Array, frames: int, rule: Rule) -> Scores:
    """Read the three figures off the curves, which are in percent."""
    between = (success[1:] + success[:-1]) / 2
    return Scores(
        PR=float(precision[rule.precision_threshold]),
        NPR=float(normalized[_NORMALIZED_RATE_AT] if rule.normalized == "share" else normalized.mean()),
        SR=float(success.mean() if rule.success == "mean" else between.mean()),
        precision=precision,
        normalized=normalized,
        success=success,
        frames=frames,
    )


def _together(group: list[Scores], rule: Rule) -> Scores:
    """Aggregate sequences; curves and figures are linear in each other, so that averaging curves is enough."""
    frames = [scores.frames for scores in group]
    weights = frames if rule.aggregation == "pooled" else None
    return scores_of_curves(
        precision=np.average([scores.precision for scores in group], axis=0, weights=weights),
        normalized=np.average([scores.normalized for scores in group], axis=0, weights=weights),
        success=np.average([scores.success for scores in group], axis=0, weights=weights),
        frames=sum(frames),
        rule=rule,
    )


def score_benchmark(
    predicted: Mapping[str, ArrayLike],
    truths: Mapping[str, Sequence[ArrayLike]],
    rule: Rule,
    *,
    attributes: Mapping[str, Mapping[str, ArrayLike]] | None = None,
) -> BenchmarkScores:
    """Score a tracker on a benchmark.

    Args:
        predicted: for each sequence's name the boxes ``(T, 4)``; sequences without ground truth are ignored.
        truths: for each sequence's name the ground truth, as ``score_sequence`` takes it.
        rule: how the benchmark is scored.
        attributes: for each sequence's name and attribute, flags: one per frame or one for the sequence.

    Raises:
        DataError: no sequences, a sequence without a prediction, or one that ``score_sequence`` can't score.
    """
    if not truths:
        raise DataError(f"{rule.benchmark}: there is no sequence to score")
    missing = [name for name in truths if name not in predicted]
    if missing:
        raise DataError(
            f"{rule.benchmark}: {len(missing)} of {len(truths)} sequences have no prediction: {missing[0]} ..."
        )
    sequences = {name: score_sequence(predicted[name], truth, rule, name=name) for name, truth in truths.items()}
    having: dict[str, list[str]] = {}
    for name in sequences:
        for attribute, flags in (attributes or {}).get(name, {}).items():
            if np.any(flags):
                having.setdefault(attribute, []).append(name)
    return gather(sequences, having, rule)


def score_sequences(
    predicted: Mapping[str, ArrayLike], sequences: Sequence[TrackingSequence], rule: Rule
) -> BenchmarkScores:
    """Score boxes, by sequence name, against the sequences' own ground truth and attributes."""
    return score_benchmark(
        predicted,
        {sequence.name: truths_of(sequence) for sequence in sequences},
        rule,
        attributes={sequence.name: sequence.attributes for sequence in sequences},
    )


def truths_of(sequence: TrackingSequence) -> tuple[Boxes, ...]:
    """Return all ground truth of a sequence ``(T, 4)``: a benchmark's ``truths``, or the boxes that are all it has."""
    truths: tuple[Boxes, ...] = getattr(sequence, "truths", (sequence.boxes,))
    return truths


def score_sequence(predicted: ArrayLike, truth: Sequence[ArrayLike], rule: Rule, *, name: str = "sequence") -> Scores:
    """Score a tracker on a sequence.

    Args:
        predicted: boxes ``(T, 4)`` as ``x y w h``, pixels.
        truth: the ground truth: one ``(T, 4)``, or two, of RGB and of TIR, where the rule takes the better of both;
            NaN where a frame has no label.
        rule: how the benchmark is scored.
        name: the sequence's name, for errors.

    Raises:
        DataError: shapes that don't belong together, or no labeled frame.
    """
    boxes = np.array(predicted, dtype=np.float64)
    truths = [_labeled(np.asarray(each, dtype=np.float64), rule) for each in truth]
    sides = ("RGB", "TIR") if rule.truth == "best" else ("only",)
    if len(truths) != len(sides):
        raise DataError(f"{name}: {rule.benchmark} has ground truth {' and '.join(sides)}, got {len(truths)} of them")
    for shape in (boxes.shape, *(each.shape for each in truths)):
        if shape != (len(boxes), 4):
            raise DataError(f"{name}: expected predicted and true boxes ({len(boxes)}, 4), got {shape}")
    counted = np.any([_finite(each) for each in truths], axis=0)
    if not counted.any():
        raise DataError(f"{name}: no frame of the ground truth has a label")

    boxes = as_counted(boxes, truths[0], rule)
    # fmin and fmax: where one modality has no label, the other's counts.
    error = np.fmin.reduce([_center_error(boxes, each, rule, normalized=False) for each in truths])[counted]
    normalized = np.fmin.reduce([_center_error(boxes, each, rule, normalized=True) for each in truths])[counted]
    overlap = np.fmax.reduce([_overlap(boxes, each, rule) for each in truths])[counted]

    within = np.less if rule.precision_strict else np.less_equal
    return scores_of_curves(
        precision=_curve(within(error, PRECISION_THRESHOLDS[:, None])),
        normalized=_curve(normalized <= NORMALIZED_THRESHOLDS[:, None]),
        success=_curve(overlap > SUCCESS_THRESHOLDS[:, None]),
        frames=int(counted.sum()),
        rule=rule,
    )


def _finite(boxes: Boxes) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(boxes).all(axis=-1))


def _labeled(truth: Boxes, rule: Rule) -> Boxes:
    """Blank out the boxes that the rule takes for no label."""
    if rule.invalid_truth != "left_out":
        return truth
    return np.where((truth[..., 2:] > 0).all(axis=-1, keepdims=True), truth, np.nan)


def as_counted(predicted: Boxes, truth: Boxes, rule: Rule) -> Boxes:
    """Return the predicted boxes with the first frame, unusable boxes and rounding as the rule wants them.

    Args:
        predicted: ``(T, 4)``, pixels.
        truth: the ground truth ``(T, 4)`` that the tracker started from.
        rule: how the benchmark is scored.
    """
    boxes = predicted.copy()
    if rule.first_frame == "truth" and _finite(truth[0]):
        boxes[0] = truth[0]
    usable = _finite(boxes) & (boxes[:, 2:] > 0).all(axis=1)
    latest = np.maximum.accumulate(np.where(usable, np.arange(len(boxes)), 0))
    boxes = np.where(usable[latest, None], boxes[latest], np.nan)
    return np.floor(boxes + 0.5) if rule.round_predictions else boxes


def _center_error(boxes: Boxes, truth: Boxes, rule: Rule, *, normalized: bool) -> Array:
    """Return errors ``(T,)``: infinite where there is no usable prediction, NaN where there is no label."""
    # A box at 1e300 is infinitely far away.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        offset = centers(boxes) - centers(truth)
        if normalized:
            offset = offset / truth[:, 2:]
        error = np.nan_to_num(np.linalg.norm(offset, axis=1), nan=np.inf, posinf=np.inf)
    return _where_valid(error, truth, rule)


def _overlap(boxes: Boxes, truth: Boxes, rule: Rule) -> Array:
    """Return IoUs ``(T,)``: zero where there is no usable prediction, NaN where there is no label."""
    return _where_valid(np.nan_to_num(intersection_over_union(boxes, truth), nan=0.0), truth, rule)


def _where_valid(values: Array, truth: Boxes, rule: Rule) -> Array:
    if rule.invalid_truth == "precision_hit":
        values = np.where((truth <= 0).any(axis=1), -1.0, values)
    return np.where(_finite(truth), values, np.nan)


def _curve(hits: NDArray[np.bool_]) -> Array:
    """Return the percentage of frames that are hits at each threshold, of flags ``(thresholds, frames)``."""
    return np.asarray(100 * hits.mean(axis=1))
