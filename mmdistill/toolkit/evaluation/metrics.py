"""Precision rate (PR), normalized precision rate (NPR) and success rate (SR) of predicted boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.toolkit.boxes import Array, centers, intersection_over_union, is_valid
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.protocols import (
    NORMALIZED_THRESHOLDS,
    PRECISION_THRESHOLDS,
    SUCCESS_THRESHOLDS,
    ScoringProtocol,
)
from mmdistill.toolkit.evaluation.scores import BenchmarkScores, Scores, aggregate, scores_from_curves
from mmdistill.toolkit.sequence import Boxes, TrackingSequence


def center_errors(boxes: Boxes, ground_truth: Boxes) -> Array:
    """Return the distances between predicted and true box centers, pixels.

    Source: Wu, Lim and Yang, CVPR 2013, https://doi.org/10.1109/CVPR.2013.312

    >>> center_errors(np.array([[3.0, 4, 10, 10]]), np.array([[0.0, 0, 10, 10]]))
    array([5.])

    Args:
        boxes: predicted ``x y w h``, pixels, ``(T, 4)``.
        ground_truth: true boxes ``(T, 4)``; NaN in frames without a label.

    Returns:
        Errors ``(T,)``: infinite where a prediction is not finite, NaN where there is no label.
    """
    return _distances(boxes, ground_truth, units=1.0)


def normalized_center_errors(boxes: Boxes, ground_truth: Boxes) -> Array:
    """Return center errors divided by the true width (x) and height (y), in target sizes.

    Source: Müller et al., TrackingNet, ECCV 2018, https://arxiv.org/abs/1803.10794

    >>> normalized_center_errors(np.array([[3.0, 4, 10, 10]]), np.array([[0.0, 0, 10, 10]]))
    array([0.5])

    Args:
        boxes: as in ``center_errors``.
        ground_truth: as in ``center_errors``.

    Returns:
        Errors ``(T,)``, with infinity and NaN as in ``center_errors``.
    """
    return _distances(boxes, ground_truth, units=ground_truth[:, 2:])


def overlaps(boxes: Boxes, ground_truth: Boxes) -> Array:
    """Return the intersection over union (IoU) of predicted and true boxes, 0 to 1.

    Source: Wu, Lim and Yang, CVPR 2013, https://doi.org/10.1109/CVPR.2013.312

    >>> overlaps(np.array([[0.0, 0, 10, 5]]), np.array([[0.0, 0, 10, 10]]))
    array([0.5])

    Args:
        boxes: as in ``center_errors``.
        ground_truth: as in ``center_errors``.

    Returns:
        IoUs ``(T,)``: 0 where a prediction is not finite, NaN where there is no label.
    """
    return np.where(_finite(ground_truth), np.nan_to_num(intersection_over_union(boxes, ground_truth), nan=0.0), np.nan)


def best_overlaps(boxes: Boxes, ground_truth: Sequence[Boxes]) -> Array:
    """Return each frame's largest IoU ``(T,)`` with any of several ground truths, each ``(T, 4)``.

    As ``overlaps``, but ground-truth boxes without area count as no label.
    """
    return np.asarray(np.fmax.reduce([overlaps(boxes, _blank_empty(each)) for each in ground_truth]))


def precision_curve(errors: Array, *, strict: bool = False) -> Array:
    """Return the share of frames within each center error of ``PRECISION_THRESHOLDS``, percent, ``(51,)``.

    PR is this curve at one threshold: 20 pixels in most benchmarks, 5 pixels in GTOT.
    Source: Wu, Lim and Yang, CVPR 2013, https://doi.org/10.1109/CVPR.2013.312

    Args:
        errors: center errors ``(T,)``, pixels.
        strict: whether an error equal to a threshold is a miss, as in GTOT.
    """
    within = np.less if strict else np.less_equal
    return _percentages(within(errors, PRECISION_THRESHOLDS[:, None]))


def normalized_precision_curve(errors: Array) -> Array:
    """Return the share of frames within each normalized error of ``NORMALIZED_THRESHOLDS``, percent, ``(51,)``.

    NPR is this curve at 0.2, or its mean, by the scoring protocol.
    Source: Müller et al., TrackingNet, ECCV 2018, https://arxiv.org/abs/1803.10794

    Args:
        errors: normalized center errors ``(T,)``.
    """
    return _percentages(errors <= NORMALIZED_THRESHOLDS[:, None])


def success_curve(ious: Array) -> Array:
    """Return the share of frames with an IoU above each of ``SUCCESS_THRESHOLDS``, percent, ``(21,)``.

    SR is the area under this curve.
    Source: Wu, Lim and Yang, CVPR 2013, https://doi.org/10.1109/CVPR.2013.312

    Args:
        ious: IoUs ``(T,)``, 0 to 1.
    """
    return _percentages(ious > SUCCESS_THRESHOLDS[:, None])


def score_sequence(
    predicted: ArrayLike, ground_truth: Sequence[ArrayLike], protocol: ScoringProtocol, *, name: str = "sequence"
) -> Scores:
    """Return PR, NPR, SR and their curves on a sequence, percent.

    With two ground truths, PR and SR are MPR and MSR: in each frame the smaller error and the larger IoU count.
    Sources: Li et al., GTOT, TIP 2016, https://doi.org/10.1109/TIP.2016.2614135; Li et al., RGBT234, Pattern
    Recognition 2019, https://arxiv.org/abs/1805.08982

    Args:
        predicted: boxes ``x y w h``, pixels, ``(T, 4)``.
        ground_truth: one array ``(T, 4)``; two, of RGB and TIR, if ``protocol.truth`` is ``"best"``. NaN in frames
            without a label.
        protocol: how the benchmark is scored.
        name: the sequence's name, for errors.

    Raises:
        DataError: shapes differ, or no frame has a label.
    """
    boxes = np.array(predicted, dtype=np.float64)
    labels = [np.asarray(each, dtype=np.float64) for each in ground_truth]
    if protocol.invalid_truth == "left_out":
        labels = [_blank_empty(each) for each in labels]
    sides = ("RGB", "TIR") if protocol.truth == "best" else ("only",)
    if len(labels) != len(sides):
        expected = "one array of RGB and one of TIR" if len(sides) == 2 else "one array"
        raise DataError(f"{name}: ground truth of {protocol.benchmark}: expected {expected}, got {len(labels)}")
    for shape in (boxes.shape, *(each.shape for each in labels)):
        if shape != (len(boxes), 4):
            raise DataError(f"{name}: expected predicted and true boxes ({len(boxes)}, 4), got {shape}")
    counted = np.any([_finite(each) for each in labels], axis=0)
    if not counted.any():
        raise DataError(f"{name}: no frame of the ground truth has a label")

    boxes = prepare_predictions(boxes, labels[0], protocol)
    measures = (center_errors, normalized_center_errors, overlaps)
    per_side = [[_replace_invalid(measure(boxes, each), each, protocol) for each in labels] for measure in measures]
    # fmin and fmax: where one modality has no label, the other's counts.
    errors, normalized_errors = (np.fmin.reduce(sides)[counted] for sides in per_side[:2])
    return scores_from_curves(
        precision=precision_curve(errors, strict=protocol.precision_strict),
        normalized=normalized_precision_curve(normalized_errors),
        success=success_curve(np.fmax.reduce(per_side[2])[counted]),
        frames=int(counted.sum()),
        protocol=protocol,
    )


def score_benchmark(
    predicted: Mapping[str, ArrayLike],
    ground_truth: Mapping[str, Sequence[ArrayLike]],
    protocol: ScoringProtocol,
    *,
    attributes: Mapping[str, Mapping[str, ArrayLike]] | None = None,
) -> BenchmarkScores:
    """Return a tracker's scores on a benchmark, overall, by sequence and by attribute.

    Args:
        predicted: boxes ``(T, 4)`` by sequence name; sequences without ground truth are ignored.
        ground_truth: by sequence name, as in ``score_sequence``.
        protocol: how the benchmark is scored.
        attributes: by sequence name and attribute, flags: one per frame or one for the sequence.

    Raises:
        DataError: no sequences, a sequence without a prediction, or one that ``score_sequence`` refuses.
    """
    if not ground_truth:
        raise DataError(f"{protocol.benchmark}: there is no sequence to score")
    missing = [name for name in ground_truth if name not in predicted]
    if missing:
        raise DataError(
            f"{protocol.benchmark}: {len(missing)} of {len(ground_truth)} sequences have no prediction: "
            f"{missing[0]} ..."
        )
    sequences = {
        name: score_sequence(predicted[name], each, protocol, name=name) for name, each in ground_truth.items()
    }
    attribute_sequences: dict[str, list[str]] = {}
    for name in sequences:
        for attribute, flags in (attributes or {}).get(name, {}).items():
            if np.any(flags):
                attribute_sequences.setdefault(attribute, []).append(name)
    return aggregate(sequences, attribute_sequences, protocol)


def score_sequences(
    predicted: Mapping[str, ArrayLike], sequences: Sequence[TrackingSequence], protocol: ScoringProtocol
) -> BenchmarkScores:
    """Return the scores of boxes, by sequence name, on sequences with ground truth and attributes."""
    return score_benchmark(
        predicted,
        {sequence.name: ground_truth_of(sequence) for sequence in sequences},
        protocol,
        attributes={sequence.name: sequence.attributes for sequence in sequences},
    )


def ground_truth_of(sequence: TrackingSequence) -> tuple[Boxes, ...]:
    """Return all ground truths of a sequence, each ``(T, 4)``: of RGB and TIR where a benchmark has both."""
    ground_truth: tuple[Boxes, ...] = getattr(sequence, "truths", (sequence.boxes,))
    return ground_truth


def prepare_predictions(predicted: Boxes, ground_truth: Boxes, protocol: ScoringProtocol) -> Boxes:
    """Return predicted boxes as the protocol counts them: first frame, invalid boxes, rounding.

    Args:
        predicted: ``(T, 4)``, pixels.
        ground_truth: the ``(T, 4)`` whose first box the tracker started from.
        protocol: how the benchmark is scored.
    """
    boxes = predicted.copy()
    if protocol.first_frame == "truth" and _finite(ground_truth[0]):
        boxes[0] = ground_truth[0]
    valid = is_valid(boxes)
    latest = np.maximum.accumulate(np.where(valid, np.arange(len(boxes)), 0))
    boxes = np.where(valid[latest, None], boxes[latest], np.nan)
    return np.floor(boxes + 0.5) if protocol.round_predictions else boxes


def _finite(boxes: Boxes) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(boxes).all(axis=-1))


def _blank_empty(ground_truth: Boxes) -> Boxes:
    """Return ground truth with NaN in place of boxes without area."""
    return np.where((ground_truth[..., 2:] > 0).all(axis=-1, keepdims=True), ground_truth, np.nan)


def _distances(boxes: Boxes, ground_truth: Boxes, units: Array | float) -> Array:
    """Return the lengths of the offsets between centers, in ``units`` per axis."""
    # A box at 1e300 is infinitely far away.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        offsets = (centers(boxes) - centers(ground_truth)) / units
        distances = np.nan_to_num(np.linalg.norm(offsets, axis=1), nan=np.inf, posinf=np.inf)
    return np.where(_finite(ground_truth), distances, np.nan)


def _replace_invalid(values: Array, ground_truth: Boxes, protocol: ScoringProtocol) -> Array:
    """Set error or IoU to -1, a hit or a miss, where the protocol takes the ground truth for invalid."""
    if protocol.invalid_truth != "precision_hit":
        return values
    return np.where(_finite(ground_truth) & (ground_truth <= 0).any(axis=1), -1.0, values)


def _percentages(hits: NDArray[np.bool_]) -> Array:
    """Return the percentage of frames that are hits, of flags ``(thresholds, frames)``."""
    return np.asarray(100 * hits.mean(axis=1))
