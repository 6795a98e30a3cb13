# ruff: noqa: RUF005, SIM300 (an array plus a list is a sum, and PR, NPR and SR are no constants)
from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmdistill.reference.errors import DataError
from mmdistill.reference.evaluation.rules import RULES, Rule
from mmdistill.reference.evaluation.scores import save_scores
from mmdistill.reference.evaluation.scoring import as_counted, score_benchmark, score_sequence

NAN = [math.nan] * 4
EVERY_RULE = pytest.mark.parametrize("rule", list(RULES.values()), ids=list(RULES))


def truths_for(rule: Rule, *truths: object) -> tuple[np.ndarray, ...]:
    """Repeat a single ground truth for rules that want RGB's and TIR's."""
    arrays_ = [np.asarray(truth, dtype=float) for truth in truths]
    return tuple(arrays_ * 2 if rule.truth == "best" and len(arrays_) == 1 else arrays_)


def moving(frames: int = 12) -> np.ndarray:
    """A box of 40 x 20 that moves; all numbers exact in binary."""
    steps = np.arange(frames, dtype=float)
    return np.stack([50 + 4 * steps, 60 - 2 * steps, 40 + steps, 20 + 0 * steps], axis=1)


# ---- hand-computed ------------------------------------------------------------------------------


@EVERY_RULE
def test_perfect_tracker(rule: Rule) -> None:
    scores = score_sequence(moving(), truths_for(rule, moving()), rule)
    assert scores.PR == pytest.approx(100)
    assert scores.NPR == pytest.approx(100)
    assert scores.SR == pytest.approx(97.5 if rule.benchmark == "gtot" else 100 * 20 / 21)
    assert scores.frames == 12


@EVERY_RULE
def test_worst_tracker(rule: Rule) -> None:
    rule = replace(rule, first_frame="as_predicted")
    scores = score_sequence(moving() + [1000, 0, 0, 0], truths_for(rule, moving()), rule)
    assert (scores.PR, scores.NPR, scores.SR) == (0, 0, 0)


def test_centre_error_on_the_threshold() -> None:
    truth = np.tile([100.0, 100, 400, 400], (2, 1))
    predicted = truth + [[0, 0, 0, 0], [20, 0, 0, 0]]
    assert score_sequence(predicted, (truth,), RULES["lasher"]).PR == 100
    assert score_sequence(predicted + [[0] * 4, [0.25, 0, 0, 0]], (truth,), RULES["lasher"]).PR == 50
    # GTOT's limit of 5 pixels is strict.
    five, less = ([truth[0], truth[1] + [shift, 0, 0, 0]] for shift in (5, 4.75))
    assert score_sequence(five, (truth, truth), RULES["gtot"]).PR == 50
    assert score_sequence(less, (truth, truth), RULES["gtot"]).PR == 100


def test_overlap_on_a_threshold_is_a_miss() -> None:
    # IoU 1/2 is above 10 of the 21 thresholds (0 to 0.45), not above 0.5; the first frame is the truth: 20.
    truth = np.tile([10.0, 10, 10, 10], (2, 1))
    predicted = [truth[0], [10, 10, 10, 5]]
    assert score_sequence(predicted, (truth,), RULES["vot"]).SR == pytest.approx(100 * (20 + 10) / 2 / 21)


def test_error_is_normalised_by_the_true_size_per_axis() -> None:
    truth = np.tile([0.0, 0, 100, 10], (3, 1)) + [200, 200, 0, 0]
    wide, tall = truth[1] + [18.5, 0, 0, 0], truth[1] + [0, 3.05, 0, 0]
    scores = score_sequence([truth[0], wide, tall], (truth,), RULES["lasher"])
    assert scores.NPR == pytest.approx(200 / 3)  # 0.185 is a hit, 0.305 is none
    # 51 thresholds 0, 0.01 ... 0.5: the first frame is within all, 0.185 within 32, 0.305 within 20.
    mean = score_sequence([truth[0], wide, tall], (truth,), RULES["lsotb-tir"])
    assert mean.NPR == pytest.approx(100 * (51 + 32 + 20) / 3 / 51)


def test_first_frame_by_rule() -> None:
    truth = moving(2)
    predicted = [truth[0] + [1000, 0, 0, 0], truth[1]]
    assert score_sequence(predicted, (truth,), RULES["lasher"]).PR == 100
    assert score_sequence(predicted, (truth, truth), RULES["rgbt234"]).PR == 50


def test_a_given_first_frame_is_rgbs() -> None:
    rule = replace(RULES["rgbt234"], first_frame="truth")
    rgb, tir = moving(2), moving(2)
    tir[0] = NAN
    lost = moving(2) + [[1000, 0, 0, 0], [0, 0, 0, 0]]
    assert score_sequence(lost, (rgb, tir), rule).PR == 100


def test_a_first_frame_without_label_stays_as_predicted() -> None:
    predicted = np.tile(moving(1), (3, 1))
    truth = predicted.copy()
    truth[0] = predicted[1] = NAN  # so that frame 1 repeats what was predicted in frame 0
    scores = score_sequence(predicted, (truth,), RULES["vot"])
    assert (scores.frames, scores.PR) == (2, 100)


def test_a_label_of_one_modality_is_enough_for_a_frame_to_count() -> None:
    rgb, tir = moving(4), moving(4)
    rgb[1], tir[2], rgb[3], tir[3] = NAN, NAN, NAN, NAN
    predicted = moving(4) + [[0] * 4, [1000, 0, 0, 0], [0] * 4, [0] * 4]
    scores = score_sequence(predicted, (rgb, tir), RULES["rgbt234"])
    assert (scores.frames, scores.PR) == (3, pytest.approx(200 / 3))


@pytest.mark.parametrize("flat", [[5, 5, 0, 10], [5, 5, 10, 0], [5, 5, -1, 10]])
def test_a_truth_without_width_or_height_alone_has_no_area(flat: list[float]) -> None:
    truth = moving(3)
    truth[1] = flat
    assert score_sequence(moving(3), (truth,), RULES["vot"]).frames == 2


@pytest.mark.parametrize("invalid", [[0, 5, 10, 10], [5, -1, 10, 10], [5, 5, 0, 10], [5, 5, 10, 0]])
def test_invalid_truth_is_a_precision_hit_and_a_success_miss(invalid: list[float]) -> None:
    truth = moving(4)
    predicted = truth.copy()
    truth[2] = invalid
    scores = score_sequence(predicted, (truth,), RULES["lasher"])
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
    scores = score_sequence(predicted, (truth,), RULES["vot"])
    assert scores.frames == 3
    assert scores.SR == pytest.approx(100 * 20 / 21)


@EVERY_RULE
def test_frames_without_label_are_not_counted(rule: Rule) -> None:
    truth = moving(11)
    truth[np.arange(11) % 10 != 0] = NAN  # VTUAV labels every tenth frame
    predicted = moving(11)
    predicted[3] += 1000
    scores = score_sequence(predicted, truths_for(rule, truth), rule)
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
    scores = score_sequence(predicted, (rgb, tir), RULES["rgbt234"])
    assert (scores.PR, scores.NPR) == (75, 75)
    assert scores.SR == pytest.approx(75 * 20 / 21)


@pytest.mark.parametrize("unusable", [NAN, [5, 5, 0, 10], [5, 5, 10, -1], [math.inf, 5, 10, 10]])
def test_unusable_prediction_repeats_the_one_before(unusable: list[float]) -> None:
    truth = np.tile(moving(1), (4, 1))
    predicted = truth.copy()
    predicted[1:3] = unusable
    assert score_sequence(predicted, (truth,), RULES["lasher"]).PR == 100
    predicted[0] += 1000
    assert score_sequence(predicted, (truth, truth), RULES["rgbt234"]).PR == 25
    predicted[0] = unusable  # nothing before it
    scores = score_sequence(predicted, (truth, truth), RULES["rgbt234"])
    assert (scores.PR, scores.NPR) == (25, 25)
    assert scores.SR == pytest.approx(25 * 20 / 21)


def test_rounding_is_offered() -> None:
    truth = np.tile([10.0, 10, 20, 20], (2, 1))
    predicted = truth + [0.4, -0.5, 0.4, 0.25]
    rounded = replace(RULES["gtot"], round_predictions=True)
    assert score_sequence(predicted, (truth, truth), RULES["gtot"]).SR < 97
    assert score_sequence(predicted, (truth, truth), rounded).SR == pytest.approx(97.5)
    assert rounded.description.endswith("predictions rounded to whole pixels")


# ---- an independent implementation, one frame and one threshold at a time ------------------------


def naive_scores(predicted: list[list[float]], truth: list[list[float]]) -> tuple[float, float, float]:
    """LasHeR's PR, NPR and SR in plain Python."""
    hits, normalised_hits, successes = 0, 0, 0
    last = truth[0]
    for index, (box, true) in enumerate(zip(predicted, truth, strict=True)):
        if index > 0 and box[2] > 0 and box[3] > 0:
            last = box
        x, y, w, h = last
        a, b, c, d = true
        if min(true) <= 0:
            hits += 1
            normalised_hits += 1
            continue
        dx, dy = (x + w / 2) - (a + c / 2), (y + h / 2) - (b + d / 2)
        hits += math.hypot(dx, dy) <= 20
        normalised_hits += math.hypot(dx / c, dy / d) <= 0.2
        across = max(0.0, min(x + w, a + c) - max(x, a))
        down = max(0.0, min(y + h, b + d) - max(y, b))
        overlap = across * down / (w * h + c * d - across * down)
        successes += sum(overlap > k / 20 for k in range(21))
    frames = len(truth)
    return 100 * hits / frames, 100 * normalised_hits / frames, 100 * successes / frames / 21


def test_against_a_naive_implementation() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        truth = generator.uniform([-2, -2, -1, -1], [60, 60, 40, 40], (30, 4))
        truth[0] = [20, 20, 10, 12]
        predicted = truth + generator.normal(0, 8, (30, 4))
        scores = score_sequence(predicted, (truth,), RULES["lasher"])
        expected = naive_scores(predicted.tolist(), truth.tolist())
        assert (scores.PR, scores.NPR, scores.SR) == pytest.approx(expected)


# ---- properties ----------------------------------------------------------------------------------

quarter = st.integers(-400, 400).map(lambda value: value / 4)
side = st.integers(1, 200).map(lambda value: value / 4)


@st.composite
def box_tracks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    frames = draw(st.integers(1, 8))

    def track() -> np.ndarray:
        corners = draw(arrays(np.float64, (frames, 2), elements=quarter))
        return np.concatenate([corners, draw(arrays(np.float64, (frames, 2), elements=side))], axis=1)

    return track(), track()


@given(tracks=box_tracks(), shift=st.tuples(quarter, quarter))
def test_a_shift_of_everything_changes_nothing(
    tracks: tuple[np.ndarray, np.ndarray], shift: tuple[float, float]
) -> None:
    predicted, truth = tracks
    before = score_sequence(predicted, (truth,), RULES["vot"])
    after = score_sequence(predicted + [*shift, 0, 0], (truth + [*shift, 0, 0],), RULES["vot"])
    assert after.figures() == before.figures()


@given(tracks=box_tracks(), power=st.integers(-3, 3))
def test_scaling_everything_leaves_npr_and_sr(tracks: tuple[np.ndarray, np.ndarray], power: int) -> None:
    predicted, truth = tracks
    before = score_sequence(predicted, (truth,), RULES["vot"])
    after = score_sequence(predicted * 2.0**power, (truth * 2.0**power,), RULES["vot"])
    assert (after.NPR, after.SR) == (before.NPR, before.SR)
    assert after.PR <= before.PR if power > 0 else after.PR >= before.PR


@given(tracks=box_tracks(), rule=st.sampled_from([*RULES.values()]))
def test_curves_are_monotone_and_figures_are_percentages(tracks: tuple[np.ndarray, np.ndarray], rule: Rule) -> None:
    predicted, truth = tracks
    scores = score_sequence(predicted, truths_for(rule, truth), rule)
    assert (np.diff(scores.precision) >= 0).all()
    assert (np.diff(scores.normalised) >= 0).all()
    assert (np.diff(scores.success) <= 0).all()
    for figure in scores.figures().values():
        assert 0 <= figure <= 100


@given(tracks=box_tracks())
def test_a_second_modality_can_only_help(tracks: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, truth = tracks
    one = score_sequence(predicted, (truth, truth), RULES["rgbt234"])
    both = score_sequence(predicted, (truth, predicted + [1, 0, 0, 0]), RULES["rgbt234"])
    assert both.NPR >= one.NPR
    assert both.SR >= one.SR
    assert both.PR == 100


@given(tracks=box_tracks())
def test_order_of_frames_does_not_matter(tracks: tuple[np.ndarray, np.ndarray]) -> None:
    rule = replace(RULES["vot"], first_frame="as_predicted")
    predicted, truth = tracks
    forward = score_sequence(predicted, (truth,), rule)
    assert score_sequence(predicted[::-1], (truth[::-1],), rule).figures() == forward.figures()


@given(tracks=box_tracks(), shift=st.tuples(quarter, quarter), rule=st.sampled_from([*RULES.values()]))
def test_a_shift_changes_what_the_rule_says(
    tracks: tuple[np.ndarray, np.ndarray], shift: tuple[float, float], rule: Rule
) -> None:
    """Where a box at the border counts as invalid, a shift across it changes scores, and no other shift does."""
    predicted, truth = tracks
    moved = truth + [*shift, 0, 0]
    before = score_sequence(predicted, truths_for(rule, truth), rule)
    after = score_sequence(predicted + [*shift, 0, 0], truths_for(rule, moved), rule)
    was, now = (truth <= 0).any(axis=1), (moved <= 0).any(axis=1)
    if rule.invalid_truth != "precision_hit" or np.array_equal(was, now):
        assert after.figures() == before.figures()
    elif (now >= was).all():  # what becomes invalid is a hit and no success
        assert after.PR >= before.PR
        assert after.SR <= before.SR


@given(tracks=box_tracks(), extra=st.integers(1, 5), rule=st.sampled_from([*RULES.values()]))
def test_appended_frames_count_as_much_as_the_others(
    tracks: tuple[np.ndarray, np.ndarray], extra: int, rule: Rule
) -> None:
    predicted, truth = tracks
    frames = len(truth)
    labelled = np.tile([[500.0, 500, 40, 20]], (extra, 1))
    before = score_sequence(predicted, truths_for(rule, truth), rule)
    found = score_sequence(
        np.concatenate([predicted, labelled]), truths_for(rule, np.concatenate([truth, labelled])), rule
    )
    perfect = 97.5 if rule.success == "trapezoids" else 100 * 20 / 21
    expected = [
        (frames * old + extra * new) / (frames + extra)
        for old, new in zip((before.PR, before.NPR, before.SR), (100, 100, perfect), strict=True)
    ]
    assert (found.PR, found.NPR, found.SR) == pytest.approx(tuple(expected))
    lost = score_sequence(
        np.concatenate([predicted, labelled + 5000]), truths_for(rule, np.concatenate([truth, labelled])), rule
    )
    share = frames / (frames + extra)
    assert (lost.PR, lost.NPR, lost.SR) == pytest.approx((share * before.PR, share * before.NPR, share * before.SR))
    unlabelled = score_sequence(
        np.concatenate([predicted, labelled]),
        truths_for(rule, np.concatenate([truth, np.full((extra, 4), np.nan)])),
        rule,
    )
    assert unlabelled.figures() == before.figures()


@given(tracks=box_tracks(), extra=st.integers(1, 20))
def test_a_longer_sequence_weighs_more_only_where_frames_are_pooled(
    tracks: tuple[np.ndarray, np.ndarray], extra: int
) -> None:
    predicted, truth = tracks
    still = np.tile(moving(1), (extra, 1))
    boxes, truths = {"drawn": predicted, "still": still}, {"drawn": (truth,), "still": (still,)}
    rule = replace(RULES["vot"], first_frame="as_predicted")
    drawn = score_sequence(predicted, (truth,), rule).SR
    perfect = 100 * 20 / 21
    frames = len(truth)
    assert score_benchmark(boxes, truths, rule).overall.SR == pytest.approx((drawn + perfect) / 2)
    pooled = score_benchmark(boxes, truths, replace(rule, aggregation="pooled")).overall.SR
    assert pooled == pytest.approx((frames * drawn + extra * perfect) / (frames + extra))


@EVERY_RULE
def test_the_bounds_of_a_benchmark(rule: Rule) -> None:
    truths = {str(length): truths_for(rule, moving(length)) for length in (3, 8)}
    best = score_benchmark({name: truth[0] for name, truth in truths.items()}, truths, rule).overall
    perfect = 97.5 if rule.success == "trapezoids" else 100 * 20 / 21
    assert (best.PR, best.NPR, best.SR) == pytest.approx((100, 100, perfect))
    worst = score_benchmark({name: truth[0] + 5000 for name, truth in truths.items()}, truths, rule).overall
    # The given first frame is all that a lost tracker may keep.
    kept = (1 / 3 + 1 / 8) / 2 if rule.first_frame == "truth" else 0
    assert (worst.PR, worst.NPR, worst.SR) == pytest.approx((100 * kept, 100 * kept, perfect * kept))


# ---- benchmarks ----------------------------------------------------------------------------------


def two_sequences() -> tuple[dict[str, np.ndarray], dict[str, tuple[np.ndarray, ...]]]:
    """A short sequence tracked perfectly, and one three times as long that is lost from the start."""
    short, long = moving(3), moving(9)
    return {"short": short, "long": long + [1000, 0, 0, 0]}, {"short": (short,), "long": (long,)}


def test_mean_of_sequences_and_pooled_frames() -> None:
    predicted, truths = two_sequences()
    rule = replace(RULES["vot"], first_frame="as_predicted")
    assert score_benchmark(predicted, truths, rule).overall.PR == pytest.approx(50)
    pooled = score_benchmark(predicted, truths, replace(rule, aggregation="pooled"))
    assert pooled.overall.PR == pytest.approx(25)
    assert pooled.overall.SR == pytest.approx(25 * 20 / 21)
    assert pooled.overall.frames == 12


def test_pooled_is_scoring_all_frames_as_one_sequence() -> None:
    generator = np.random.default_rng(1)
    truths = {str(length): (moving(length), moving(length) + 1) for length in (2, 5, 11)}
    predicted = {name: truth[0] + generator.normal(0, 4, truth[0].shape) for name, truth in truths.items()}
    pooled = score_benchmark(predicted, truths, RULES["gtot"]).overall
    chained = tuple(np.concatenate([truth[side] for truth in truths.values()]) for side in (0, 1))
    together = score_sequence(np.concatenate(list(predicted.values())), chained, RULES["gtot"])
    assert pooled.figures() == together.figures()


def test_attributes_take_the_sequences_that_have_them_on_any_frame() -> None:
    predicted, truths = two_sequences()
    attributes = {
        "short": {"occlusion": [False, True, False], "fast_motion": [False] * 3},
        "long": {"occlusion": np.zeros(9, bool), "fast_motion": True, "dark": np.ones(9, bool)},
    }
    rule = replace(RULES["synthetic"], first_frame="as_predicted")
    scores = score_benchmark(predicted, truths, rule, attributes=attributes)
    assert {name: each.PR for name, each in scores.attributes.items()} == pytest.approx(
        {"occlusion": 100, "fast_motion": 0, "dark": 0}
    )


def test_json(tmp_path: Path) -> None:
    predicted, truths = two_sequences()
    scores = score_benchmark(predicted, truths, RULES["vot"], attributes={"short": {"dark": [1, 0, 0]}})
    save_scores(tmp_path / "out" / "scores.json", scores)
    text = (tmp_path / "out" / "scores.json").read_text()
    perfect = {"PR": 100.0, "NPR": 100.0, "SR": 95.2381}
    first_frame_only = {"PR": 11.1111, "NPR": 11.1111, "SR": 10.582}
    assert text == scores.to_json()
    assert json.loads(text) == {
        "benchmark": "vot",
        "rule": RULES["vot"].description,
        "overall": {"PR": 55.5556, "NPR": 55.5556, "SR": 52.9101},
        "sequences": {"short": perfect, "long": first_frame_only},
        "attributes": {"dark": perfect},
    }


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "truth", "rule", "message"),
    [
        (moving(3), (moving(4),), "vot", r"man: .*\(3, 4\), got \(4, 4\)"),
        (moving(3)[:, :3], (moving(3),), "vot", r"got \(3, 3\)"),
        (moving(3), (moving(3),), "gtot", "ground truth RGB and TIR, got 1"),
        (moving(3), (moving(3), moving(3)), "lasher", "got 2"),
        (moving(3), ([NAN] * 3,), "vot", "no frame"),
        (moving(2), (np.zeros((2, 4)),), "synthetic", "no frame"),
    ],
)
def test_input_that_does_not_belong_together(
    predicted: np.ndarray, truth: tuple[np.ndarray, ...], rule: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        score_sequence(predicted, truth, RULES[rule], name="man")


def test_missing_prediction_is_named() -> None:
    predicted, truths = two_sequences()
    del predicted["long"]
    with pytest.raises(DataError, match="1 of 2 sequences have no prediction: long"):
        score_benchmark(predicted, truths, RULES["vot"])
    with pytest.raises(DataError, match="no sequence"):
        score_benchmark(predicted, {}, RULES["vot"])


def test_halves_are_rounded_up() -> None:
    rule = replace(RULES["gtot"], round_predictions=True)
    boxes = np.array([[0.5, 1.5, 2.5, 3.5], [0.4, 1.6, 2.49, 3.51]])
    np.testing.assert_array_equal(as_counted(boxes, boxes, rule), [[1, 2, 3, 4], [0, 2, 2, 4]])
