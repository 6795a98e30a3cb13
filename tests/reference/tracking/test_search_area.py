import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmdistill import Pair
from mmdistill.reference.crops import CropGeometry, crop_geometry, to_tensor
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.dimp_classifier import distance_to_center
from mmdistill.reference.tracking.localization import localize
from mmdistill.reference.tracking.search_area import (
    ImageBounds,
    SearchAreas,
    Target,
    boxes_to_cells,
    cells_to_boxes,
    clamp_to_image,
    cut_pair,
    initial_scale,
    scale_limits,
    search_areas,
    search_geometry,
    stack,
)
from mmdistill.reference.tracking.settings import LocalizationSettings
from mmdistill.toolkit.boxes import centers, from_center
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import fill_missing_modality

SIZES = [(288, 4), (144, 4), (160, 4), (80, 2), (144, 6)]
LAST = Target(np.array([100.0, 80.0, 40.0, 40.0]), scale=np.array(2.0))


def areas_of(*geometries: CropGeometry) -> SearchAreas:
    origins = torch.tensor([[[g.left, g.top, 0, 0]] for g in geometries], dtype=torch.float64)
    return SearchAreas(origins, torch.tensor([[[g.scale]] for g in geometries], dtype=torch.float64))


def image_bounds(*sizes: tuple[float, float], areas: SearchAreas | None = None) -> ImageBounds:
    """The bounds of images of some sizes, in their own pixels or in the areas' crop pixels."""
    boxes = torch.tensor([[(0, 0, *size), (*size, 0, 0)] for size in sizes], dtype=torch.float64)
    image, corner = (boxes if areas is None else areas.to_crop(boxes)).unbind(1)
    return ImageBounds(image[:, :2], corner[:, :2], image[:, 2:])


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize(("crop_size", "filter_size"), SIZES)
def test_the_target_is_centerd_on_a_score_cell(crop_size: int, filter_size: int, factor: int) -> None:
    network = NetworkSettings(crop_size=crop_size, filter_size=filter_size)
    geometry = search_geometry(LAST, network, factor)
    assert (geometry.side, geometry.size) == (2 * crop_size * factor, crop_size * factor)
    # The plain crop is the middle of a larger patch.
    center = centers(geometry.to_crop(LAST.box)) - (factor - 1) * crop_size / 2
    cell = center / 16  # where the filter's label has its maximum
    np.testing.assert_allclose(cell, np.rint(cell), atol=1e-9)
    np.testing.assert_allclose(cell, network.feature_size // 2)


@pytest.mark.parametrize(("crop_size", "filter_size"), SIZES)
def test_the_place_of_the_label_leads_back_to_the_target(crop_size: int, filter_size: int) -> None:
    network = NetworkSettings(crop_size=crop_size, filter_size=filter_size)
    geometry = search_geometry(LAST, network)
    moved = LAST.box + np.array([2 * 16 * 2, -16 * 2, 0, 0])  # by two cells and one
    side = network.score_size
    distance = distance_to_center(torch.tensor(geometry.to_crop(moved)), (side, side), 16).numpy()

    areas = areas_of(geometry)
    known = areas.to_crop(torch.tensor(LAST.box)[None, None])[:, 0]
    last, size = boxes_to_cells(known)
    scores = torch.tensor(1 - distance / distance.max())[None]
    found = localize(scores, last, size, LocalizationSettings(neighborhood=9))
    np.testing.assert_allclose(found.position - last, [[2, -1]], atol=1e-9)
    found_box = cells_to_boxes(found.position, known[:, 2:])
    np.testing.assert_allclose(areas.to_image(found_box[:, None])[:, 0], [moved])


def test_search_areas_are_their_geometries() -> None:
    geometries = [crop_geometry((30.0 * n, 20.0), 50.0 + 7 * n, 80) for n in range(3)]
    areas = areas_of(*geometries)
    boxes = np.random.default_rng(0).uniform(0, 50, (3, 2, 4))
    expected = [geometry.to_crop(pair) for geometry, pair in zip(geometries, boxes, strict=True)]
    np.testing.assert_allclose(areas.to_crop(torch.tensor(boxes)), expected)
    np.testing.assert_allclose(areas.to_image(areas.to_crop(torch.tensor(boxes))), boxes)


def test_boxes_are_clamped_alike_in_crop_and_image_pixels() -> None:
    areas = areas_of(*(crop_geometry((30.0 * n, 20.0), 50.0 + 7 * n, 80) for n in range(3)))
    boxes = torch.tensor(np.random.default_rng(0).uniform([-100, -100, 5, 5], [1100, 1100, 1200, 50], (3, 4)))
    sizes = [(1000, 900), (800, 1000), (1000, 1000)]
    expected = clamp_to_image(boxes, image_bounds(*sizes), 0.2)
    clamped = clamp_to_image(areas.to_crop(boxes[:, None])[:, 0], image_bounds(*sizes, areas=areas), 0.2)
    np.testing.assert_allclose(areas.to_image(clamped[:, None])[:, 0], expected, atol=1e-9)


def test_cells_and_boxes_are_inverse() -> None:
    box = torch.tensor(from_center([[70.0, 90.0]], [[20.0, 32.0]]))
    position, size = boxes_to_cells(box)
    np.testing.assert_allclose(size, [[1.25, 2]])
    np.testing.assert_allclose(position, [[70 / 16, 90 / 16]])
    np.testing.assert_allclose(cells_to_boxes(position, box[:, 2:]), box)


def test_search_areas_of_several_targets_are_those_of_each() -> None:
    generator = np.random.default_rng(0)
    for crop_size, filter_size in SIZES:
        network = NetworkSettings(crop_size=crop_size, filter_size=filter_size)
        targets = Target(
            generator.uniform([-50, -50, 4, 4], [900, 700, 300, 300], (20, 4)), generator.uniform(0.01, 9, 20)
        )
        areas = search_areas(targets, network)
        assert areas.dtype == np.int64
        for number, area in enumerate(areas):
            one = Target(targets.box[number], targets.scale[number])
            assert search_geometry(one, network) == CropGeometry(*area.tolist(), crop_size)
            expected = crop_geometry(
                centers(one.box) + one.scale * (8 if network.feature_size % 2 else 0), crop_size * one.scale, crop_size
            )
            assert CropGeometry(*area.tolist(), crop_size) == expected


def test_one_modality_stands_in_for_the_other() -> None:
    image, other = np.full((4, 6, 3), 1, np.uint8), np.full((4, 6, 3), 2, np.uint8)
    assert [x is image for x in fill_missing_modality(Pair(image, None), where="update")] == [True, True]
    assert [x is image for x in fill_missing_modality(Pair(None, image), where="update")] == [True, True]
    pair = fill_missing_modality(Pair(image, other), where="update")
    assert pair.rgb is image
    assert pair.tir is other


def test_frames_that_nobody_can_track() -> None:
    with pytest.raises(DataError, match=r"^update: expected an RGB or a TIR image, got neither$"):
        fill_missing_modality(Pair(None, None), where="update")
    images = Pair(np.zeros((4, 6, 3), np.uint8), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(DataError, match=r"^init: expected aligned .* of one size, got 6 x 4 and 5 x 4 pixels$"):
        fill_missing_modality(images, where="init")


def test_crops_become_a_pair_of_batches() -> None:
    generator = np.random.default_rng(0)
    crops = [Pair(*generator.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)) for _ in range(3)]
    images = stack(crops, torch.float64, torch.device("cpu"))
    assert images.rgb.dtype == torch.float64
    torch.testing.assert_close(images.rgb, to_tensor([crop.rgb for crop in crops]).double())
    torch.testing.assert_close(images.tir, to_tensor([crop.tir for crop in crops]).double())


def test_one_image_in_both_places_is_cut_and_stacked_once() -> None:
    image = np.zeros((90, 90, 3), np.uint8)
    crops = cut_pair(Pair(image, image), search_geometry(LAST, NetworkSettings(crop_size=80)))
    assert crops.rgb is crops.tir
    images = stack([crops], torch.float32, torch.device("cpu"))
    assert images.rgb is images.tir


def test_both_images_are_cut_alike() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    geometry = search_geometry(LAST, NetworkSettings(crop_size=80, filter_size=4))
    rgb, tir = cut_pair(Pair(image, image.copy()), geometry)
    assert rgb.shape == (80, 80, 3)
    np.testing.assert_array_equal(rgb, tir)


def kept_inside(box: np.ndarray, image_size: tuple[int, int], share: float) -> np.ndarray:
    """The box beside another of another image, to see that neither sees the other."""
    boxes = torch.tensor(np.stack([box, [0, 0, 5, 5]]))
    kept = clamp_to_image(boxes, image_bounds(image_size, (50, 50)), share).numpy()
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
