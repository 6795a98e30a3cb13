"""Simulated thermal images have the photograph's shapes and temperatures of their own."""

import cv2
import numpy as np
import pytest

from mmdistill.reference.synthetic.simulated_thermal import (
    find_regions,
    simulate_thermal_object,
    simulate_thermal_scene,
)


def three_stripes() -> np.ndarray:
    """Red, green and blue from left to right, (60, 90, 3)."""
    image = np.zeros((60, 90, 3), np.uint8)
    for number in range(3):
        image[:, 30 * number : 30 * number + 30, number] = 200
    return image


@pytest.mark.parametrize("seed", range(5))
def test_shares_of_regions_sum_to_one(seed: int) -> None:
    generator = np.random.default_rng(seed)
    image = generator.integers(256, size=(40, 50, 3), dtype=np.uint8)
    shares = find_regions(image, 6, generator)
    assert shares.shape == (40, 50, 6)
    assert shares.min() >= 0
    np.testing.assert_allclose(shares.sum(axis=-1), 1, atol=1e-5)


def test_one_color_is_one_region() -> None:
    """With as many regions as colors, and centers drawn on all of them, each color is a region."""
    image, found = three_stripes(), []
    for seed in range(20):
        labels = find_regions(image, 3, np.random.default_rng(seed)).argmax(axis=-1)
        stripes = [np.unique(labels[:, start + 3 : start + 27]) for start in (0, 30, 60)]
        found.append(all(len(each) == 1 for each in stripes) and len({int(each[0]) for each in stripes}) == 3)
    assert sum(found) >= 4


def test_edges_of_the_photograph_are_edges_of_the_thermal_image() -> None:
    ratios = []
    for seed in range(20):
        thermal = simulate_thermal_scene(three_stripes(), np.random.default_rng(seed)).astype(float)
        change = np.abs(np.diff(thermal, axis=1)).mean(axis=0)
        edges = np.r_[27:32, 57:62]
        ratios.append(change[edges].mean() / max(np.delete(change, edges).mean(), 0.1))
    assert np.median(ratios) > 3


def test_brightness_does_not_predict_temperature() -> None:
    """Over seeds, bright regions are as often warmer as colder than dark ones."""
    image = np.full((60, 80, 3), 40, np.uint8)
    image[:, 40:] = 210
    warmer = []
    for seed in range(60):
        thermal = simulate_thermal_scene(image, np.random.default_rng(seed)).astype(float)
        warmer.append(thermal[:, 45:].mean() > thermal[:, :35].mean())
    assert 0.25 < np.mean(warmer) < 0.75


def test_an_object_is_more_uniform_than_a_scene() -> None:
    image = cv2.resize(np.random.default_rng(0).integers(256, size=(6, 8, 3), dtype=np.uint8), (80, 60))
    mask = np.full((60, 80), 255, np.uint8)
    spread = {"scene": [], "object": []}
    for seed in range(30):
        spread["scene"].append(simulate_thermal_scene(image, np.random.default_rng(seed)).std())
        spread["object"].append(simulate_thermal_object(image, mask, np.random.default_rng(seed)).std())
    assert np.mean(spread["object"]) < 0.8 * np.mean(spread["scene"])


def test_type_size_and_repeatability() -> None:
    image = three_stripes()
    mask = np.full(image.shape[:2], 255, np.uint8)
    for make in (simulate_thermal_scene, lambda picture, generator: simulate_thermal_object(picture, mask, generator)):
        first, again, other = (make(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert first.shape == (60, 90)
        assert first.dtype == np.uint8
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2)])
def test_any_size(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8)
    assert simulate_thermal_scene(image, np.random.default_rng(0)).shape == size
    assert simulate_thermal_object(image, np.zeros(size, np.uint8), np.random.default_rng(0)).shape == size
