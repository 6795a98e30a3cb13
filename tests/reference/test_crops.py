import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill.reference.crops import CropGeometry, crop_geometry, cut

coordinates = st.floats(-500, 500)


@given(coordinates, coordinates, st.floats(2, 400))
def test_the_crop_is_rounded_to_whole_pixels(x: float, y: float, side: float) -> None:
    geometry = crop_geometry((x, y), side, 96)
    assert abs(geometry.side - side) <= 0.5
    assert abs(geometry.left + geometry.side / 2 - x) <= 0.5 + 1e-9
    assert abs(geometry.top + geometry.side / 2 - y) <= 0.5 + 1e-9


@given(coordinates, coordinates, st.floats(2, 400), st.integers(16, 300))
def test_box_conversion_round_trip(x: float, y: float, side: float, size: int) -> None:
    geometry = crop_geometry((x, y), side, size)
    box = np.array([12.5, -3.0, 40.0, 20.0])
    np.testing.assert_allclose(geometry.to_image(geometry.to_crop(box)), box, atol=1e-9)
    whole = geometry.to_crop([geometry.left, geometry.top, geometry.side, geometry.side])
    np.testing.assert_allclose(whole, [0, 0, size, size], atol=1e-9)


@given(st.integers(-60, 60), st.integers(-60, 60), st.integers(2, 70))
@settings(max_examples=60, deadline=None)
def test_outside_repeats_the_border(left: int, top: int, side: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (24, 31, 3), dtype=np.uint8)
    crop = cut(image, CropGeometry(left, top, side, side))
    rows = np.clip(np.arange(top, top + side), 0, 23)
    columns = np.clip(np.arange(left, left + side), 0, 30)
    np.testing.assert_array_equal(crop, image[rows][:, columns])


@pytest.mark.parametrize("size", [24, 96, 200])
def test_a_target_lies_at_its_converted_box(size: int) -> None:
    image = np.zeros((120, 160, 3), dtype=np.uint8)
    image[40:60, 70:100] = 255
    geometry = crop_geometry((85, 50), 80, size)
    crop = cut(image, geometry)[..., 0].astype(float)
    x, y, w, h = geometry.to_crop([70, 40, 30, 20])
    total = crop.sum() / 255
    assert total == pytest.approx(w * h, rel=0.1)
    pixels = np.arange(size) + 0.5
    assert (crop.sum(axis=0) * pixels).sum() / crop.sum() == pytest.approx(x + w / 2, abs=0.6)
    assert (crop.sum(axis=1) * pixels).sum() / crop.sum() == pytest.approx(y + h / 2, abs=0.6)


@pytest.mark.parametrize("corner", [(-450, -350), (-150, 20), (60, 40), (-930, -930)])
def test_a_search_area_far_larger_than_the_image(corner: tuple[int, int]) -> None:
    down, across = np.mgrid[:90, :120]
    image = np.stack([2 * down, 2 * across, down + across], axis=-1).astype(np.uint8)
    left, top = corner
    crop = cut(image, CropGeometry(left, top, 960, 48)).astype(float)
    # Made as a whole, then shrunk: a crop pixel is the mean of 20 x 20.
    columns, rows = np.clip(np.arange(960) + left, 0, 119), np.clip(np.arange(960) + top, 0, 89)
    expected = image[rows][:, columns].reshape(48, 20, 48, 20, 3).mean(axis=(1, 3))
    # Where the image ends within a crop pixel, that pixel and the next may be off by what a crop pixel changes.
    assert np.abs(crop - expected).max() <= 2 * 20 + 1
    assert np.abs(crop - expected).mean() < 3


def test_a_huge_search_area_takes_no_memory() -> None:
    image = np.zeros((90, 120, 3), dtype=np.uint8)
    tracemalloc.start()
    crop = cut(image, CropGeometry(-50_000, -50_000, 300_000, 48))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert crop.shape == (48, 48, 3)
    assert peak < 1_000_000
