import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.reference.tracking.search_area import Target, initial_scale, keep_inside, scale_limits
from mmdistill.toolkit.boxes import from_center


def kept_inside(box: np.ndarray, image_size: tuple[int, int], share: float) -> np.ndarray:
    """The box beside another of another image, to see that neither sees the other."""
    boxes = torch.tensor(np.stack([box, [0, 0, 5, 5]]))
    kept = keep_inside(boxes, torch.tensor([image_size, (50, 50)]).double(), share).numpy()
    np.testing.assert_array_equal(kept[1], [0, 0, 5, 5])
    return kept[0]


sides = st.floats(1, 500)
places = st.floats(-1e4, 1e4)
image_sizes = st.tuples(st.integers(20, 2000), st.integers(20, 2000))


def test_scale_by_hand() -> None:
    box = np.array([7.0, 8.0, 36.0, 64.0])
    scale = initial_scale(box, 5, 240)  # 5 * sqrt(2304) = 240 image pixels
    assert scale == 1.0
    limits = scale_limits(Target(box, scale), (320, 240), 10)
    np.testing.assert_array_equal(limits.base_size, [36, 64])
    assert limits.low == pytest.approx(10 / 36)  # the width falls to 10 pixels first
    assert limits.high == pytest.approx(240 / 64)  # the height fills the image first
    assert limits.scale(np.array([72.0, 128.0])) == pytest.approx(2)
    assert limits.scale(np.array([144.0, 64.0])) == pytest.approx(2)  # area counts, not shape
    assert limits.scale(np.array([1.0, 1.0])) == limits.low
    assert limits.scale(np.array([999.0, 999.0])) == limits.high


@given(sides, sides, image_sizes, sides, sides)
def test_scale_limits(w: float, h: float, image_size: tuple[int, int], new_w: float, new_h: float) -> None:
    box = np.array([0, 0, w, h])
    target = Target(box, initial_scale(box, 5, 288))
    limits = scale_limits(target, image_size, 10)
    assert limits.low <= target.scale <= limits.high
    assert limits.scale(box[2:]) == pytest.approx(target.scale)
    size = limits.base_size * limits.scale(np.array([new_w, new_h]))
    assert (size >= np.minimum(box[2:], 10) * (1 - 1e-9)).all()
    assert (size <= np.maximum(box[2:], image_size) * (1 + 1e-9)).all()


@given(places, places, sides, sides, image_sizes)
def test_a_fifth_stays_inside(x: float, y: float, w: float, h: float, image_size: tuple[int, int]) -> None:
    kept = kept_inside(from_center([x, y], [w, h]), image_size, 0.2)
    np.testing.assert_allclose(kept[2:], np.minimum([w, h], image_size))
    visible = np.minimum(kept[:2] + kept[2:], image_size) - np.maximum(kept[:2], 0)
    assert (visible >= 0.2 * kept[2:] - 1e-9).all()


@given(st.floats(0, 1), st.floats(0, 1))
def test_what_is_inside_stays_where_it_is(x: float, y: float) -> None:
    box = np.array([x * 80, y * 60, 20, 20])
    np.testing.assert_allclose(kept_inside(box, (100, 80), 0.2), box, atol=1e-12)


def test_what_leaves_stops_at_a_fifth() -> None:
    np.testing.assert_allclose(kept_inside(np.array([500.0, -90, 20, 10]), (100, 80), 0.2), [96, -8, 20, 10])
