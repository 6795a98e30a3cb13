# ruff: noqa: RUF005, SIM300 (an array plus a list is a sum, and PR, NPR and SR are no constants)
"""Scores of one sequence by each protocol, by hand and against a naive implementation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from box_tracks import EVERY_PROTOCOL, NAN, moving, truths_for

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.metrics import prepare_predictions, score_sequence
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS, ScoringProtocol


@EVERY_PROTOCOL
def test_perfect_tracker(protocol: ScoringProtocol) -> None:
    scores = score_sequence(moving(), truths_for(protocol, moving()), protocol)
    assert scores.PR == pytest.approx(100)
    assert scores.NPR == pytest.approx(100)
    assert scores.SR == pytest.approx(97.5 if protocol.benchmark == "gtot" else 100 * 20 / 21)
    assert scores.frames == 12


@EVERY_PROTOCOL
def test_worst_tracker(protocol: ScoringProtocol) -> None:
    protocol = replace(protocol, first_frame="as_predicted")
    scores = score_sequence(moving() + [1000, 0, 0, 0], truths_for(protocol, moving()), protocol)
    assert (scores.PR, scores.NPR, scores.SR) == (0, 0, 0)


@EVERY_PROTOCOL
@pytest.mark.parametrize(
    "box",
    [
        [1e300, 20, 30, 40],
        [10, 20, 1e300, 1e300],
        [1e308, 1e308, 1e308, 1e308],
        [-1e308, 0, 1e308, 1e308],
        [1e-320, 1e-320, 1e-320, 1e-320],
    ],
)
def test_a_box_of_numbers_beyond_reason_is_one_miss(protocol: ScoringProtocol, box: list[float]) -> None:
    predicted = moving()
    predicted[5] = box
    scores = score_sequence(predicted, truths_for(protocol, moving()), protocol)
    perfect = 97.5 if protocol.benchmark == "gtot" else 100 * 20 / 21
    assert (scores.PR, scores.NPR, scores.SR) == pytest.approx((100 * 11 / 12, 100 * 11 / 12, perfect * 11 / 12))


def test_center_error_on_the_threshold() -> None:
    truth = np.tile([100.0, 100, 400, 400], (2, 1))
    predicted = truth + [[0, 0, 0, 0], [20, 0, 0, 0]]
    assert score_sequence(predicted, (truth,), PROTOCOLS["lasher"]).PR == 100
    assert score_sequence(predicted + [[0] * 4, [0.25, 0, 0, 0]], (truth,), PROTOCOLS["lasher"]).PR == 50
    # GTOT's limit of 5 pixels is strict.
    five, less = ([truth[0], truth[1] + [shift, 0, 0, 0]] for shift in (5, 4.75))
    assert score_sequence(five, (truth, truth), PROTOCOLS["gtot"]).PR == 50
    assert score_sequence(less, (truth, truth), PROTOCOLS["gtot"]).PR == 100


def test_overlap_on_a_threshold_is_a_miss() -> None:
    # IoU 1/2 is above 10 of the 21 thresholds (0 to 0.45), not above 0.5; the first frame is the truth: 20.
    truth = np.tile([10.0, 10, 10, 10], (2, 1))
    predicted = [truth[0], [10, 10, 10, 5]]
    assert score_sequence(predicted, (truth,), PROTOCOLS["vot"]).SR == pytest.approx(100 * (20 + 10) / 2 / 21)


def test_error_is_normalized_by_the_true_size_per_axis() -> None:
    truth = np.tile([0.0, 0, 100, 10], (3, 1)) + [200, 200, 0, 0]
    wide, tall = truth[1] + [18.5, 0, 0, 0], truth[1] + [0, 3.05, 0, 0]
    scores = score_sequence([truth[0], wide, tall], (truth,), PROTOCOLS["lasher"])
    assert scores.NPR == pytest.approx(200 / 3)  # 0.185 is a hit, 0.305 is none
    # 51 thresholds 0, 0.01 ... 0.5: the first frame is within all, 0.185 within 32, 0.305 within 20.
    mean = score_sequence([truth[0], wide, tall], (truth,), PROTOCOLS["lsotb-tir"])
    assert mean.NPR == pytest.approx(100 * (51 + 32 + 20) / 3 / 51)


def test_first_frame_by_rule() -> None:
    truth = moving(2)
    predicted = [truth[0] + [1000, 0, 0, 0], truth[1]]
    assert score_sequence(predicted, (truth,), PROTOCOLS["lasher"]).PR == 100
    assert score_sequence(predicted, (truth, truth), PROTOCOLS["rgbt234"]).PR == 50


def test_a_given_first_frame_is_rgbs() -> None:
    protocol = replace(PROTOCOLS["rgbt234"], first_frame="truth")
    rgb, tir = moving(2), moving(2)
    tir[0] = NAN
    lost = moving(2) + [[1000, 0, 0, 0], [0, 0, 0, 0]]
    assert score_sequence(lost, (rgb, tir), protocol).PR == 100


def test_a_first_frame_without_label_stays_as_predicted() -> None:
    predicted = np.tile(moving(1), (3, 1))
    truth = predicted.copy()
    truth[0] = predicted[1] = NAN  # so that frame 1 repeats what was predicted in frame 0
    scores = score_sequence(predicted, (truth,), PROTOCOLS["vot"])
    assert (scores.frames, scores.PR) == (2, 100)


def test_a_label_of_one_modality_is_enough_for_a_frame_to_count() -> None:
    rgb, tir = moving(4), moving(4)
    rgb[1], tir[2], rgb[3], tir[3] = NAN, NAN, NAN, NAN
    predicted = moving(4) + [[0] * 4, [1000, 0, 0, 0], [0] * 4, [0] * 4]
    scores = score_sequence(predicted, (rgb, tir), PROTOCOLS["rgbt234"])
    assert (scores.frames, scores.PR) == (3, pytest.approx(200 / 3))


@pytest.mark.parametrize("flat", [[5, 5, 0, 10], [5, 5, 10, 0], [5, 5, -1, 10]])
def test_a_truth_without_width_or_height_alone_has_no_area(flat: list[float]) -> None:
    truth = moving(3)
    truth[1] = flat
    assert score_sequence(moving(3), (truth,), PROTOCOLS["vot"]).frames == 2


@pytest.mark.parametrize("invalid", [[0, 5, 10, 10], [5, -1, 10, 10], [5, 5, 0, 10], [5, 5, 10, 0]])
def test_invalid_truth_is_a_precision_hit_and_a_success_miss(invalid: list[float]) -> None:
    truth = moving(4)
    predicted = truth.copy()
    truth[2] = invalid
    scores = score_sequence(predicted, (truth,), PROTOCOLS["lasher"])
    assert scores.PR == 100
    assert scores.NPR == 100
    assert scores.SR == pytest.approx(0.75 * 100 * 20 / 21)
    assert scores.frames == 4


def test_truth_without_area_is_left_out_but_one_at_the_border_counts() -> None:
    truth = moving(4)
    truth[1] = 0
    truth[2, 0] = -3
    predicted = truth.copy()
    predicted[1] = [5, 5, 5, 5]
    scores = score_sequence(predicted, (truth,), PROTOCOLS["vot"])
    assert scores.frames == 3
    assert scores.SR == pytest.approx(100 * 20 / 21)


@EVERY_PROTOCOL
def test_frames_without_label_are_not_counted(protocol: ScoringProtocol) -> None:
    truth = moving(11)
    truth[np.arange(11) % 10 != 0] = NAN  # VTUAV labels every tenth frame
    predicted = moving(11)
    predicted[3] += 1000
    scores = score_sequence(predicted, truths_for(protocol, truth), protocol)
    assert scores.frames == 2
    assert scores.PR == 100


def test_the_better_modality_counts_frame_by_frame() -> None:
    rgb = moving(4)
    tir = rgb.copy()
    predicted = rgb.copy()
    rgb[1:] += [1000, 0, 0, 0]  # frame 0: both right, 1: only TIR's
    tir[2:] += [1000, 0, 0, 0]  # 2 and 3: neither ...
    rgb[3] = predicted[3]  # ... but 3 is RGB's
    tir[3] = NAN  # which is the only one there
    scores = score_sequence(predicted, (rgb, tir), PROTOCOLS["rgbt234"])
    assert (scores.PR, scores.NPR) == (75, 75)
    assert scores.SR == pytest.approx(75 * 20 / 21)


@pytest.mark.parametrize("unusable", [NAN, [5, 5, 0, 10], [5, 5, 10, -1], [math.inf, 5, 10, 10]])
def test_unusable_prediction_repeats_the_one_before(unusable: list[float]) -> None:
    truth = np.tile(moving(1), (4, 1))
    predicted = truth.copy()
    predicted[1:3] = unusable
    assert score_sequence(predicted, (truth,), PROTOCOLS["lasher"]).PR == 100
    predicted[0] += 1000
    assert score_sequence(predicted, (truth, truth), PROTOCOLS["rgbt234"]).PR == 25
    predicted[0] = unusable  # nothing before it
    scores = score_sequence(predicted, (truth, truth), PROTOCOLS["rgbt234"])
    assert (scores.PR, scores.NPR) == (25, 25)
    assert scores.SR == pytest.approx(25 * 20 / 21)


def test_rounding_is_offered() -> None:
    truth = np.tile([10.0, 10, 20, 20], (2, 1))
    predicted = truth + [0.4, -0.5, 0.4, 0.25]
    rounded = replace(PROTOCOLS["gtot"], round_predictions=True)
    assert score_sequence(predicted, (truth, truth), PROTOCOLS["gtot"]).SR < 97
    assert score_sequence(predicted, (truth, truth), rounded).SR == pytest.approx(97.5)
    assert rounded.description.endswith("predictions rounded to whole pixels")


def test_halves_are_rounded_up() -> None:
    protocol = replace(PROTOCOLS["gtot"], round_predictions=True)
    boxes = np.array([[0.5, 1.5, 2.5, 3.5], [0.4, 1.6, 2.49, 3.51]])
    np.testing.assert_array_equal(prepare_predictions(boxes, boxes, protocol), [[1, 2, 3, 4], [0, 2, 2, 4]])


@pytest.mark.parametrize(
    ("predicted", "truth", "protocol", "message"),
    [
        (moving(3), (moving(4),), "vot", r"man: .*\(3, 4\), got \(4, 4\)"),
        (moving(3)[:, :3], (moving(3),), "vot", r"got \(3, 3\)"),
        (moving(3), (moving(3),), "gtot", "expected one array of RGB and one of TIR, got 1"),
        (moving(3), (moving(3), moving(3)), "lasher", "got 2"),
        (moving(3), ([NAN] * 3,), "vot", "no frame"),
        (moving(2), (np.zeros((2, 4)),), "synthetic", "no frame"),
    ],
)
def test_input_that_does_not_belong_together(
    predicted: np.ndarray, truth: tuple[np.ndarray, ...], protocol: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        score_sequence(predicted, truth, PROTOCOLS[protocol], name="man")


def naive_scores(predicted: list[list[float]], truth: list[list[float]]) -> tuple[float, float, float]:
    """LasHeR's PR, NPR and SR in plain Python."""
    hits, normalized_hits, successes = 0, 0, 0
    last = truth[0]
    for index, (box, true) in enumerate(zip(predicted, truth, strict=True)):
        if index > 0 and box[2] > 0 and box[3] > 0:
            last = box
        x, y, w, h = last
        a, b, c, d = true
        if min(true) <= 0:
            hits += 1
            normalized_hits += 1
            continue
        dx, dy = (x + w / 2) - (a + c / 2), (y + h / 2) - (b + d / 2)
        hits += math.hypot(dx, dy) <= 20
        normalized_hits += math.hypot(dx / c, dy / d) <= 0.2
        across = max(0.0, min(x + w, a + c) - max(x, a))
        down = max(0.0, min(y + h, b + d) - max(y, b))
        overlap = across * down / (w * h + c * d - across * down)
        successes += sum(overlap > k / 20 for k in range(21))
    frames = len(truth)
    return 100 * hits / frames, 100 * normalized_hits / frames, 100 * successes / frames / 21


def test_against_a_naive_implementation() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        truth = generator.uniform([-2, -2, -1, -1], [60, 60, 40, 40], (30, 4))
        truth[0] = [20, 20, 10, 12]
        predicted = truth + generator.normal(0, 8, (30, 4))
        scores = score_sequence(predicted, (truth,), PROTOCOLS["lasher"])
        expected = naive_scores(predicted.tolist(), truth.tolist())
        assert (scores.PR, scores.NPR, scores.SR) == pytest.approx(expected)


def test_a_perfect_tracker_of_fractional_boxes_gains_nothing_by_rounding() -> None:
    """x + w - x is not always w: without a limit a third of equal boxes would overlap by more than 1."""
    boxes = np.random.default_rng(0).uniform(1, 500, (300, 4)).round(4)
    assert score_sequence(boxes, [boxes], PROTOCOLS["vot"]).SR == pytest.approx(100 * 20 / 21)
