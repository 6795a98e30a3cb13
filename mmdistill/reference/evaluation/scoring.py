"""From boxes to precision rate (PR), normalised precision rate (NPR) and success rate (SR)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.reference.data.boxes import Array, centres, intersection_over_union
from mmdistill.reference.data.sequence import Boxes, TrackingSequence
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
        DataError: shapes that don't belong together, or no labelled frame.
    """
    boxes = np.array(predicted, dtype=np.float64)
    truths = [_labelled(np.asarray(each, dtype=np.float64), rule) for each in truth]
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
    error = np.fmin.reduce([_centre_error(boxes, each, rule, normalised=False) for each in truths])[counted]
    normalised = np.fmin.reduce([_centre_error(boxes, each, rule, normalised=True) for each in truths])[counted]
    overlap = np.fmax.reduce([_overlap(boxes, each, rule) for each in truths])[counted]

    within = np.less if rule.precision_strict else np.less_equal
    return scores_of_curves(
        precision=_curve(within(error, PRECISION_THRESHOLDS[:, None])),
        normalised=_curve(normalised <= NORMALISED_THRESHOLDS[:, None]),
        success=_curve(overlap > SUCCESS_THRESHOLDS[:, None]),
        frames=int(counted.sum()),
        rule=rule,
    )


def _finite(boxes: Boxes) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(boxes).all(axis=-1))


def _labelled(truth: Boxes, rule: Rule) -> Boxes:
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


def _centre_error(boxes: Boxes, truth: Boxes, rule: Rule, *, normalised: bool) -> Array:
    """Return errors ``(T,)``: infinite where there is no usable prediction, NaN where there is no label."""
    # A box at 1e300 is infinitely far away.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        offset = centres(boxes) - centres(truth)
        if normalised:
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
