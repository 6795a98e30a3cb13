# ruff: noqa: RUF005, SIM300 (an array plus a list is a sum, and PR, NPR and SR are no constants)
"""What holds of scores whatever the boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from box_tracks import moving, truths_for
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmdistill.toolkit.evaluation.metrics import score_benchmark, score_sequence
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS, ScoringProtocol

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
    before = score_sequence(predicted, (truth,), PROTOCOLS["vot"])
    after = score_sequence(predicted + [*shift, 0, 0], (truth + [*shift, 0, 0],), PROTOCOLS["vot"])
    assert after.rates() == before.rates()


@given(tracks=box_tracks(), power=st.integers(-3, 3))
def test_scaling_everything_leaves_npr_and_sr(tracks: tuple[np.ndarray, np.ndarray], power: int) -> None:
    predicted, truth = tracks
    before = score_sequence(predicted, (truth,), PROTOCOLS["vot"])
    after = score_sequence(predicted * 2.0**power, (truth * 2.0**power,), PROTOCOLS["vot"])
    assert (after.NPR, after.SR) == (before.NPR, before.SR)
    assert after.PR <= before.PR if power > 0 else after.PR >= before.PR


@given(tracks=box_tracks(), protocol=st.sampled_from([*PROTOCOLS.values()]))
def test_curves_are_monotone_and_figures_are_percentages(
    tracks: tuple[np.ndarray, np.ndarray], protocol: ScoringProtocol
) -> None:
    predicted, truth = tracks
    scores = score_sequence(predicted, truths_for(protocol, truth), protocol)
    assert (np.diff(scores.precision) >= 0).all()
    assert (np.diff(scores.normalized) >= 0).all()
    assert (np.diff(scores.success) <= 0).all()
    for figure in scores.rates().values():
        assert 0 <= figure <= 100


@given(tracks=box_tracks())
def test_a_second_modality_can_only_help(tracks: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, truth = tracks
    one = score_sequence(predicted, (truth, truth), PROTOCOLS["rgbt234"])
    both = score_sequence(predicted, (truth, predicted + [1, 0, 0, 0]), PROTOCOLS["rgbt234"])
    assert both.NPR >= one.NPR
    assert both.SR >= one.SR
    assert both.PR == 100


@given(tracks=box_tracks())
def test_order_of_frames_does_not_matter(tracks: tuple[np.ndarray, np.ndarray]) -> None:
    protocol = replace(PROTOCOLS["vot"], first_frame="as_predicted")
    predicted, truth = tracks
    forward = score_sequence(predicted, (truth,), protocol)
    assert score_sequence(predicted[::-1], (truth[::-1],), protocol).rates() == forward.rates()


@given(tracks=box_tracks(), shift=st.tuples(quarter, quarter), protocol=st.sampled_from([*PROTOCOLS.values()]))
def test_a_shift_changes_what_the_rule_says(
    tracks: tuple[np.ndarray, np.ndarray], shift: tuple[float, float], protocol: ScoringProtocol
) -> None:
    """Where a box at the border counts as invalid, a shift across it changes scores, and no other shift does."""
    predicted, truth = tracks
    moved = truth + [*shift, 0, 0]
    before = score_sequence(predicted, truths_for(protocol, truth), protocol)
    after = score_sequence(predicted + [*shift, 0, 0], truths_for(protocol, moved), protocol)
    was, now = (truth <= 0).any(axis=1), (moved <= 0).any(axis=1)
    if protocol.invalid_truth != "precision_hit" or np.array_equal(was, now):
        assert after.rates() == before.rates()
    elif (now >= was).all():  # what becomes invalid is a hit and no success
        assert after.PR >= before.PR
        assert after.SR <= before.SR


@given(tracks=box_tracks(), extra=st.integers(1, 5), protocol=st.sampled_from([*PROTOCOLS.values()]))
def test_appended_frames_count_as_much_as_the_others(
    tracks: tuple[np.ndarray, np.ndarray], extra: int, protocol: ScoringProtocol
) -> None:
    predicted, truth = tracks
    frames = len(truth)
    labeled = np.tile([[500.0, 500, 40, 20]], (extra, 1))
    before = score_sequence(predicted, truths_for(protocol, truth), protocol)
    found = score_sequence(
        np.concatenate([predicted, labeled]), truths_for(protocol, np.concatenate([truth, labeled])), protocol
    )
    perfect = 97.5 if protocol.success == "trapezoids" else 100 * 20 / 21
    expected = [
        (frames * old + extra * new) / (frames + extra)
        for old, new in zip((before.PR, before.NPR, before.SR), (100, 100, perfect), strict=True)
    ]
    assert (found.PR, found.NPR, found.SR) == pytest.approx(tuple(expected))
    lost = score_sequence(
        np.concatenate([predicted, labeled + 5000]), truths_for(protocol, np.concatenate([truth, labeled])), protocol
    )
    share = frames / (frames + extra)
    assert (lost.PR, lost.NPR, lost.SR) == pytest.approx((share * before.PR, share * before.NPR, share * before.SR))
    unlabeled = score_sequence(
        np.concatenate([predicted, labeled]),
        truths_for(protocol, np.concatenate([truth, np.full((extra, 4), np.nan)])),
        protocol,
    )
    assert unlabeled.rates() == before.rates()


@given(tracks=box_tracks(), extra=st.integers(1, 20))
def test_a_longer_sequence_weighs_more_only_where_frames_are_pooled(
    tracks: tuple[np.ndarray, np.ndarray], extra: int
) -> None:
    predicted, truth = tracks
    still = np.tile(moving(1), (extra, 1))
    boxes, truths = {"drawn": predicted, "still": still}, {"drawn": (truth,), "still": (still,)}
    protocol = replace(PROTOCOLS["vot"], first_frame="as_predicted")
    drawn = score_sequence(predicted, (truth,), protocol).SR
    perfect = 100 * 20 / 21
    frames = len(truth)
    assert score_benchmark(boxes, truths, protocol).overall.SR == pytest.approx((drawn + perfect) / 2)
    pooled = score_benchmark(boxes, truths, replace(protocol, aggregation="pooled")).overall.SR
    assert pooled == pytest.approx((frames * drawn + extra * perfect) / (frames + extra))
