from __future__ import annotations

import numpy as np
import pytest

from mmdistill.pair import Pair
from mmdistill.reference.synthetic import Foreground
from mmdistill.reference.synthetic.imaging import Sensors, VirtualCamera
from mmdistill.reference.synthetic.textures import ProceduralTextures

SIZE = (120, 90)
TIME = np.arange(300.0)


def test_without_motion_the_view_is_the_middle_of_the_background() -> None:
    camera = VirtualCamera.random(np.random.default_rng(0), ProceduralTextures(), TIME, SIZE, motion=0)
    np.testing.assert_array_equal(camera.view(7), camera.background[1:-1, 1:-1])


@pytest.mark.parametrize("seed", range(20))
def test_the_view_moves_and_never_leaves_the_background(seed: int) -> None:
    camera = VirtualCamera.random(np.random.default_rng(seed), ProceduralTextures(), TIME, SIZE, motion=12)
    corners = np.array([(0, 0, 1), (SIZE[0], 0, 1), (0, SIZE[1], 1), (*SIZE, 1)])
    seen = corners @ camera.maps.swapaxes(1, 2)
    assert seen.min() >= 0
    assert (seen.max(axis=(0, 1)) <= camera.background.shape[1::-1]).all()
    assert np.ptp(seen.mean(axis=1), axis=0).max() > 6
    assert camera.view(0).shape == (90, 120, 4)


class LeftAndRight:
    """Backgrounds whose left half is dark and cold."""

    def background(self, _: np.random.Generator, size: tuple[int, int]) -> Pair[np.ndarray]:
        right = np.tile(np.arange(size[0]) >= size[0] / 2, (size[1], 1)).astype(np.uint8)
        return Pair(np.repeat(right[..., None] * 200, 3, axis=2), right * 100)

    def foreground(self, _: np.random.Generator, size: tuple[int, int]) -> Foreground:
        raise NotImplementedError


def test_surroundings_are_those_of_the_point_in_its_frame() -> None:
    camera = VirtualCamera.random(np.random.default_rng(0), LeftAndRight(), TIME[:3], SIZE, motion=0)
    tones = camera.surroundings(np.array([[20.0, 45], [100, 45], [60, 45]]), 11)
    np.testing.assert_allclose(tones[:2], [[0, 0, 0, 0], [200, 200, 200, 100]])
    np.testing.assert_allclose(tones[2], [100, 100, 100, 50], atol=12)


def test_sensors_add_the_noise_asked_for_and_go_dark_in_rgb_alone() -> None:
    darkness = np.array([0.0, 1.0] * 20)
    sensors = Sensors.random(np.random.default_rng(0), darkness, SIZE, noise=(4, 4))
    scene = np.full((90, 120, 4), 120, np.uint8)
    light, dark = (sensors.expose(scene, index) for index in (0, 1))
    for image in light:
        assert image is not None
        np.testing.assert_allclose(image.mean(), 120, rtol=0.16)
        np.testing.assert_allclose(image.std(), 4, rtol=0.1)
    assert dark.rgb is not None
    assert dark.tir is not None
    assert dark.rgb.mean() < 20
    np.testing.assert_allclose(dark.tir.mean(), 120, rtol=0.06)
    assert not np.array_equal(sensors.expose(scene, 2).tir, light.tir)
