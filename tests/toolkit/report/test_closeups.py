from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.toolkit.report.closeups import label_spacing, segment_means, split_curve


@given(st.integers(1, 3000))
def test_segments_are_contiguous_and_never_single_frames(length: int) -> None:
    values = np.random.default_rng(length).random(length)
    spans, means = segment_means(values)
    assert [low for low, _ in spans] == [1, *(high + 1 for _, high in spans[:-1])]
    assert spans[-1][1] == length
    assert len(spans) <= 120
    sizes = [high - low + 1 for low, high in spans]
    assert min(sizes) >= min(5, length)
    assert max(sizes) - min(sizes) <= 1
    np.testing.assert_allclose(means, [values[low - 1 : high].mean() for low, high in spans])


@pytest.mark.parametrize(("length", "count"), [(4, 1), (9, 1), (10, 2), (82, 16), (599, 119), (600, 120), (5000, 120)])
def test_number_of_segments(length: int, count: int) -> None:
    assert len(segment_means(np.zeros(length))[0]) == count


def test_frames_without_a_label_count_for_nothing() -> None:
    nan = np.nan
    _, means = segment_means(np.array([nan, 0.5, 1.0, nan, nan, *[nan] * 5, *[0.25] * 5]))
    np.testing.assert_array_equal(means, [0.75, nan, 0.25])


@pytest.mark.parametrize("length", [11, 95, 96, 200, 1199, 5000])
@pytest.mark.parametrize("spacing", [1, 3, 10])
def test_labels_of_every_tenth_frame_make_one_line(length: int, spacing: int) -> None:
    values = np.full(length, np.nan)
    values[::spacing] = np.linspace(0.2, 0.8, len(values[::spacing]))
    assert label_spacing(values) == spacing
    spans, means = segment_means(values)
    assert np.isfinite(means).all()
    (line,) = split_curve(means)
    assert len(line.split()) == max(2, len(spans))
    np.testing.assert_allclose(means, [np.nanmean(values[low - 1 : high]) for low, high in spans])


def test_a_line_ends_where_the_target_is_away_for_longer_than_labels_are_apart() -> None:
    values = np.full(300, np.nan)
    values[::10] = 0.5
    values[100:150] = np.nan
    assert len(split_curve(segment_means(values)[1])) == 2


def test_a_value_alone_is_drawn_as_wide_as_its_place() -> None:
    nan = np.nan
    assert split_curve(np.array([nan, 0.25, nan, 0.5, 1.0, nan])) == ["1,75.0 2,75.0", "3.5,50.0 4.5,0.0"]
    assert split_curve(np.array([nan, nan])) == []
