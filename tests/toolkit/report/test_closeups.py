from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.pair import Pair
from mmdistill.toolkit.drawing import WHITE
from mmdistill.toolkit.report.closeups import (
    MIN_REGION,
    THUMBNAIL_WIDTH,
    choose_region,
    data_uri,
    draw_thumbnail,
    label_spacing,
    segment_means,
    split_curve,
)


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


def test_unlabeled_frames_are_left_out_of_the_means() -> None:
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


def test_a_line_ends_where_labels_are_missing() -> None:
    values = np.full(300, np.nan)
    values[::10] = 0.5
    values[100:150] = np.nan
    assert len(split_curve(segment_means(values)[1])) == 2


def test_a_single_value_is_drawn_across_its_segment() -> None:
    nan = np.nan
    assert split_curve(np.array([nan, 0.25, nan, 0.5, 1.0, nan])) == ["1,75.0 2,75.0", "3.5,50.0 4.5,0.0"]
    assert split_curve(np.array([nan, nan])) == []


BLUE, RED = (40, 90, 250), (250, 60, 20)


def edges(image: np.ndarray, color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of all pixels of a color."""
    rows, columns = np.nonzero((image == color).all(axis=-1))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_both_boxes_and_the_truth_are_where_they_belong() -> None:
    gray = np.full((240, 320, 3), 90, np.uint8)
    truth, first, second = np.array([[20.0, 30, 60, 40], [200, 20, 80, 100], [60, 120, 90, 60]])
    image = draw_thumbnail(Pair(gray, gray), [truth], [(first, BLUE), (second, RED)])
    assert image.shape == (480, THUMBNAIL_WIDTH, 3)
    for half in (image[:240], image[240:]):
        for (x, y, w, h), color in ((truth, WHITE), (first, BLUE), (second, RED)):
            assert np.abs(np.array(edges(half, color)) - (x, y, x + w, y + h)).max() <= 2


def test_each_modality_has_its_own_ground_truth_and_a_missing_one_is_left_out() -> None:
    gray = np.full((120, 160, 3), 90, np.uint8)
    rgb, tir, box = np.array([[10.0, 10, 60, 60], [90, 50, 60, 60], [5, 5, 150, 110]])
    both = draw_thumbnail(Pair(gray, gray), [rgb, tir], [(box, BLUE)])
    left = [edges(half, WHITE)[0] for half in (both[:240], both[240:])]
    assert np.abs(np.array(left) - (20, 180)).max() <= 2
    alone = draw_thumbnail(Pair(None, gray), [rgb, tir], [(box, BLUE)])
    np.testing.assert_array_equal(alone, both[240:])


def test_the_image_of_a_data_uri_is_the_image() -> None:
    image = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 255, (15, 20, 3)), 16, 0), 16, 1).astype(np.uint8)
    head, _, data = data_uri(image).partition(",")
    assert head == "data:image/jpeg;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(decoded.astype(int) - image).mean() < 12
    assert data_uri(image) == data_uri(image.copy())


sides = st.integers(1, 900)
numbers = st.floats(-2000, 2000)
boxes = st.lists(st.tuples(numbers, numbers, numbers, numbers).map(np.array), max_size=3)


@given(sides, sides, boxes)
def test_a_region_is_a_part_of_the_image_that_holds_the_boxes(width: int, height: int, found: list[np.ndarray]) -> None:
    x, y, w, h = choose_region(width, height, [*found, np.full(4, np.nan)])
    assert min(x, y) >= 0
    assert min(w, h) >= 1
    assert x + w <= width
    assert y + h <= height
    assert w >= MIN_REGION * width - 1
    if found and all((box[2:] > 0).all() for box in found):
        low = np.min([box[:2] for box in found], axis=0).clip(0, (width, height))
        high = np.max([box[:2] + box[2:] for box in found], axis=0).clip(0, (width, height))
        assert (low >= (x - 1, y - 1)).all()
        assert (high <= (x + w + 1, y + h + 1)).all()


def test_the_image_is_shown_whole_where_there_is_no_box() -> None:
    assert choose_region(64, 48, [np.full(4, np.nan)]) == (0, 0, 64, 48)
    assert choose_region(1000, 500, [np.array([480.0, 240, 40, 20])]) == pytest.approx((300, 150, 400, 200))
