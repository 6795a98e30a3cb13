from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.reference.report.looks import stretches


@given(st.integers(1, 3000))
def test_stretches_follow_each_other_and_are_never_single_frames(length: int) -> None:
    values = np.random.default_rng(length).random(length)
    spans, means = stretches(values)
    assert [low for low, _ in spans] == [1, *(high + 1 for _, high in spans[:-1])]
    assert spans[-1][1] == length
    assert len(spans) <= 120
    sizes = [high - low + 1 for low, high in spans]
    assert min(sizes) >= min(5, length)
    assert max(sizes) - min(sizes) <= 1
    np.testing.assert_allclose(means, [values[low - 1 : high].mean() for low, high in spans])


@pytest.mark.parametrize(("length", "count"), [(4, 1), (9, 1), (10, 2), (82, 16), (599, 119), (600, 120), (5000, 120)])
def test_how_many_stretches(length: int, count: int) -> None:
    assert len(stretches(np.zeros(length))[0]) == count


def test_frames_without_a_label_count_for_nothing() -> None:
    nan = np.nan
    _, means = stretches(np.array([nan, 0.5, 1.0, nan, nan, *[nan] * 5, *[0.25] * 5]))
    np.testing.assert_array_equal(means, [0.75, nan, 0.25])
