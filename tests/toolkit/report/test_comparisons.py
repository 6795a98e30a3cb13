from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmdistill.toolkit.evaluation.metrics import best_overlaps
from mmdistill.toolkit.report.comparisons import MIN_LEAD, find_divergence

ious = st.lists(
    st.tuples(st.sampled_from([0, 0.2, 0.4, 0.6, 0.8, 1]), st.sampled_from([0, 0.3, 0.5, 0.7, 0.9])),
    min_size=1,
    max_size=25,
)


@given(ious)
def test_the_lead_after_a_divergence_over_any_range(pairs: list[tuple[float, float]]) -> None:
    first, second = np.array(pairs, dtype=float).T
    divergence = find_divergence(first, second)
    assert divergence is not None
    lead = first - second
    assert lead[divergence.first_ahead] == lead.max()
    assert lead[divergence.second_ahead] == lead.min()
    if lead.sum() < 0:
        lead = -lead
    # Stretch by stretch, without any running sum.
    candidates = [
        start
        for start in range(len(lead))
        if all(lead[start:end].mean() >= MIN_LEAD - 1e-9 for end in range(start + 1, len(lead) + 1))
        and all(lead[begin:start].mean() <= MIN_LEAD + 1e-9 for begin in range(start))
    ]
    if divergence.frame is None:
        # Nobody stays ahead, or only just.
        assert all(abs(lead[start:].mean() - MIN_LEAD) < 1e-9 for start in candidates)
    else:
        assert divergence.frame in candidates


@pytest.mark.parametrize(
    ("lead", "expected"),
    [
        ([0, 0, 0, 0.8, 0.8, 0.8], 3),
        ([0, 0.9, 0, 0, 0, 0.8, 0.8], 5),  # apart, together again, apart for good
        ([0, 0, 0.9, 0.9, 0, 0.9, 0.9], 2),  # together for one frame by chance
        ([0.8, 0.8, 0, 0, 0, 0, 0, 0, 0], None),  # both lost in the end
        ([0.8, 0.8, 0.8], 0),
        ([0.1, -0.1, 0.1], None),
    ],
)
def test_divergence_by_hand(lead: list[float], expected: int | None) -> None:
    base = np.full(len(lead), 0.1)
    for one, other in ((base + lead, base), (base, base + lead)):
        divergence = find_divergence(one, other)
        assert divergence is not None
        assert divergence.frame == expected


def test_unlabeled_frames_are_ignored_and_never_chosen() -> None:
    nan = np.nan
    first = np.array([nan, 0.9, nan, nan, 0.9, 0.9, nan])
    second = np.array([nan, 0.9, nan, nan, 0.0, 0.1, nan])
    assert find_divergence(first, second) == (4, 1, 4)
    assert find_divergence(first * nan, second * nan) is None


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Of two boxes of whole pixels, by counting them."""
    masks = np.zeros((2, 40, 40), dtype=bool)
    for mask, (x, y, w, h) in zip(masks, (one, other), strict=True):
        mask[int(y) : int(y + h), int(x) : int(x + w)] = True
    return float((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())


whole = arrays(np.int64, (6, 4), elements=st.integers(1, 19)).map(lambda boxes: boxes.astype(float))


@given(whole, whole, whole)
def test_overlaps_are_those_of_counted_pixels(boxes: np.ndarray, rgb: np.ndarray, tir: np.ndarray) -> None:
    one = [iou(*pair) for pair in zip(boxes, rgb, strict=True)]
    other = [iou(*pair) for pair in zip(boxes, tir, strict=True)]
    np.testing.assert_allclose(best_overlaps(boxes, [rgb]), one, atol=1e-12)
    np.testing.assert_allclose(best_overlaps(boxes, [rgb, tir]), np.maximum(one, other), atol=1e-12)


def test_invalid_boxes_have_no_overlap_and_empty_ground_truth_is_no_label() -> None:
    nan = np.nan
    truth = np.array([[1, 1, 4, 4], [1, 1, 4, 4], [nan] * 4, [1, 1, 0, 4], [1, 1, 4, 4]])
    boxes = np.array([[nan] * 4, [1, 1, 0, 0], [1, 1, 4, 4], [1, 1, 4, 4], [1, 1, 4, 4]])
    np.testing.assert_array_equal(best_overlaps(boxes, [truth]), [0, 0, nan, nan, 1])
    np.testing.assert_array_equal(best_overlaps(boxes, [truth, boxes]), [0, 0, 1, 1, 1])
