import numpy as np
import pytest
import torch

from mmdistill import Pair
from mmdistill.reference.crops import CropGeometry, crop_geometry, to_tensor
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.dimp_classifier import distance_to_center
from mmdistill.reference.tracking.localization import localize
from mmdistill.reference.tracking.search_area import (
    SearchAreas,
    Target,
    at_cells,
    cut_pair,
    in_cells,
    search_geometry,
    stack,
)
from mmdistill.reference.tracking.settings import LocalizationSettings
from mmdistill.toolkit.boxes import centers, from_center
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import fill_missing_modality

SIZES = [(288, 4), (144, 4), (160, 4), (80, 2), (144, 6)]
LAST = Target(np.array([100.0, 80.0, 40.0, 40.0]), scale=2.0)


def areas_of(*geometries: CropGeometry) -> SearchAreas:
    corners = torch.tensor([[g.left, g.top] for g in geometries], dtype=torch.float64)
    scales = torch.tensor([[g.scale] for g in geometries], dtype=torch.float64)
    return SearchAreas(corners, scales, torch.full((len(geometries), 2), 1000.0, dtype=torch.float64))


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
    known = areas.to_crop(torch.tensor(LAST.box)[None])
    last, size = in_cells(known, network)
    scores = torch.tensor(1 - distance / distance.max())[None]
    found = localize(scores, last, size, LocalizationSettings(neighborhood=9))
    np.testing.assert_allclose(found.displacement - last, [[2, -1]], atol=1e-9)
    np.testing.assert_allclose(areas.to_image(at_cells(found.displacement, known[:, 2:], network)), [moved])


def test_search_areas_are_their_geometries() -> None:
    geometries = [crop_geometry((30.0 * n, 20.0), 50.0 + 7 * n, 80) for n in range(3)]
    areas = areas_of(*geometries)
    boxes = np.random.default_rng(0).uniform(0, 50, (3, 4))
    expected = [geometry.to_crop(box) for geometry, box in zip(geometries, boxes, strict=True)]
    np.testing.assert_allclose(areas.to_crop(torch.tensor(boxes)), expected)
    np.testing.assert_allclose(areas.to_image(areas.to_crop(torch.tensor(boxes))), boxes)


def test_cells_and_boxes_are_inverse() -> None:
    network = NetworkSettings(crop_size=144)
    box = torch.tensor(from_center([[70.0, 90.0]], [[20.0, 32.0]]))
    displacement, size = in_cells(box, network)
    np.testing.assert_allclose(size, [[1.25, 2]])
    np.testing.assert_allclose(displacement, [[-2 / 16, 18 / 16]])  # score cells 0 to 9, 4.5 in the middle
    np.testing.assert_allclose(at_cells(displacement, box[:, 2:], network), box)


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
    images = stack(crops, like=torch.zeros(1, dtype=torch.float64))
    assert images.rgb.dtype == torch.float64
    torch.testing.assert_close(images.rgb, to_tensor([crop.rgb for crop in crops]).double())
    torch.testing.assert_close(images.tir, to_tensor([crop.tir for crop in crops]).double())


def test_one_image_in_both_places_is_cut_and_stacked_once() -> None:
    image = np.zeros((90, 90, 3), np.uint8)
    crops = cut_pair(Pair(image, image), search_geometry(LAST, NetworkSettings(crop_size=80)))
    assert crops.rgb is crops.tir
    images = stack([crops], like=torch.zeros(1))
    assert images.rgb is images.tir


def test_both_images_are_cut_alike() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    geometry = search_geometry(LAST, NetworkSettings(crop_size=80, filter_size=4))
    rgb, tir = cut_pair(Pair(image, image.copy()), geometry)
    assert rgb.shape == (80, 80, 3)
    np.testing.assert_array_equal(rgb, tir)
