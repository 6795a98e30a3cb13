import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.reference.training.sampler import ProposalSettings, propose
from mmdistill.toolkit.boxes import intersection_over_union


@given(st.floats(1, 300), st.floats(1, 300), st.integers(0, 1000))
def test_overlaps_are_right_and_at_least_the_minimum(width: float, height: float, seed: int) -> None:
    box = np.array([10.0, -20.0, width, height])
    proposals, overlaps = propose(box, ProposalSettings(), np.random.default_rng(seed))
    assert proposals.shape == (8, 4)
    np.testing.assert_allclose(overlaps, intersection_over_union(proposals, box))
    assert (overlaps >= 0.1).all()


def test_proposals_spread_from_close_to_far() -> None:
    generator = np.random.default_rng(0)
    overlaps = np.concatenate([propose([0, 0, 40, 30], ProposalSettings(), generator)[1] for _ in range(200)])
    assert np.quantile(overlaps, 0.95) > 0.95
    assert np.quantile(overlaps, 0.1) < 0.5


def test_a_deviation_is_relative_to_the_box() -> None:
    settings = ProposalSettings(count=4000, deviations=(0.1,), minimum_iou=0.0)
    proposals, _ = propose([100, 100, 90, 40], settings, np.random.default_rng(0))
    centers = proposals[:, :2] + proposals[:, 2:] / 2
    assert centers.std(axis=0) == pytest.approx([6, 6], rel=0.06)  # a tenth of sqrt(90 * 40)
    assert np.log(proposals[:, 2:]).std(axis=0) == pytest.approx([0.1, 0.1], rel=0.06)
