import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.tir_cmd.boxes import box_state, intersection_over_union

corners = st.floats(-50, 50, width=32)
sizes = st.floats(0.5, 60, width=32)
boxes = st.tuples(corners, corners, sizes, sizes)


def by_counting(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    """The overlap of boxes of whole pixels, pixel by pixel."""
    masks = np.zeros((2, 40, 40), dtype=bool)
    for mask, (x, y, w, h) in zip(masks, (first, second), strict=True):
        mask[y : y + h, x : x + w] = True
    return float((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())


whole = st.tuples(*([st.integers(0, 19)] * 2 + [st.integers(1, 20)] * 2))


@given(whole, whole)
def test_overlap_agrees_with_counting_pixels(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    got = intersection_over_union(torch.tensor(first), torch.tensor(second))
    np.testing.assert_allclose(got.item(), by_counting(first, second), rtol=1e-6)


@given(boxes, boxes)
def test_overlap_is_symmetric_and_one_with_itself(first: tuple[float, ...], second: tuple[float, ...]) -> None:
    one, other = (torch.tensor(box, dtype=torch.float64) for box in (first, second))
    overlap = intersection_over_union(one, other)
    assert 0 <= overlap <= 1
    assert overlap == intersection_over_union(other, one)
    torch.testing.assert_close(intersection_over_union(one, one), torch.ones((), dtype=torch.float64))


def test_degenerate_boxes() -> None:
    point, box = torch.tensor([3.0, 3.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 9.0, 9.0])
    assert intersection_over_union(point, box) == 0
    assert intersection_over_union(point, point) == 0
    assert intersection_over_union(torch.tensor([5.0, 5.0, -3.0, -3.0]), box) == 0
    assert intersection_over_union(box * torch.nan, box).isnan()
    assert intersection_over_union((1000 * box).half(), (1000 * box).half()) == 1  # its area is no float16 number


@given(boxes)
def test_the_state_is_equation_three_and_can_be_undone(box: tuple[float, ...]) -> None:
    x, y, w, h = box
    state = box_state(torch.tensor(box, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(state, [(x + w / 2) / w, (y + h / 2) / h, np.log(w), np.log(h)], rtol=1e-9, atol=1e-12)
    size = np.exp(state[2:])
    np.testing.assert_allclose(np.concatenate([(state[:2] - 0.5) * size, size]), box, rtol=1e-9, atol=1e-9)
