"""Whether TIR covers a target, and the largest covered rectangle, against a search over all rectangles."""

from __future__ import annotations

import numpy as np
import pytest

from mmdistill.pair import Pair
from mmdistill.toolkit.alignment.coverage import covers_target, largest_rectangle
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.video.reading import Reading, drop_uncovered


def left_half() -> np.ndarray:
    mask = np.zeros((100, 200), dtype=bool)
    mask[:, :100] = True
    return mask


@pytest.mark.parametrize(
    ("box", "covered"),
    [
        ([20, 40, 10, 10], True),
        ([150, 40, 10, 10], False),
        ([94, 40, 10, 10], True),  # 6 of 10 columns of the box, and half of the search area
        ([96, 40, 10, 10], False),  # 4 of 10 columns
        ([80, 40, 10, 10], True),
        ([90, 45, 60, 6], False),  # the box
        ([np.nan] * 4, True),
        ([500, 500, 10, 10], True),
    ],
)
def test_a_target_is_covered_by_half_of_its_box_and_search_area(box: list[float], covered: bool) -> None:
    assert covers_target(left_half(), box) is covered


def test_the_search_area_counts_beside_the_box() -> None:
    mask = np.zeros((100, 200), dtype=bool)
    mask[45:55, 95:105] = True
    assert not covers_target(mask, [95, 45, 10, 10])


def test_tir_without_the_target_counts_as_uncovered() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    reading = Reading(Pair(image, image), Pair("seen", "seen"), Pair((200, 100), (200, 100)), mask=left_half())
    assert drop_uncovered(reading, [20, 40, 10, 10]) is reading
    dropped = drop_uncovered(reading, [150, 40, 10, 10])
    assert dropped.states == ("seen", "uncovered")
    assert dropped.images.tir is None
    assert dropped.images.rgb is image
    missing = reading._replace(states=Pair("missing", "seen"), images=Pair(None, image))
    assert not drop_uncovered(missing, [150, 40, 10, 10]).usable


@pytest.mark.parametrize("seed", range(8))
def test_the_largest_rectangle_is_that_of_a_search_over_all(seed: int) -> None:
    mask = np.random.default_rng(seed).random((7, 9)) < 0.75
    areas = [
        (bottom - top) * (right - left)
        for top in range(7)
        for bottom in range(top + 1, 8)
        for left in range(9)
        for right in range(left + 1, 10)
        if mask[top:bottom, left:right].all()
    ]
    rows, columns = largest_rectangle(mask)
    assert mask[rows, columns].all()
    assert mask[rows, columns].size == max(areas)


def test_a_large_mask_is_searched_in_cells() -> None:
    mask = np.zeros((1080, 1920), dtype=bool)
    mask[101:901, 203:1503] = True
    rows, columns = largest_rectangle(mask)
    assert mask[rows, columns].all()
    assert mask[rows, columns].size > 0.97 * mask.sum()


def test_nothing_covered_is_an_error() -> None:
    with pytest.raises(DataError, match="covers no part"):
        largest_rectangle(np.zeros((5, 5), dtype=bool))
