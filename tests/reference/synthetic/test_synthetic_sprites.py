from __future__ import annotations

import numpy as np
import pytest

from mmdistill.pair import Pair
from mmdistill.reference.synthetic.motion import Poses
from mmdistill.reference.synthetic.sprites import Sprite
from mmdistill.reference.synthetic.textures import Foreground, ProceduralTextures


def poses(center: tuple[float, float], size: tuple[float, float], angle: float = 0.0) -> Poses:
    return Poses(np.array([center]), np.array([size]), np.array([angle]))


def painted(sprite: Sprite, where: Poses, opacity: tuple[float, ...] = (1, 1, 1, 1)) -> np.ndarray:
    image = np.full((90, 120, 4), 100, np.uint8)
    maps = sprite.maps(where)
    sprite.draw(image, maps[0], sprite.boxes(maps)[0], np.array(opacity, np.float32))
    return image


def white_square(side: int) -> Sprite:
    pair = Pair(np.full((side, side, 3), 255, np.uint8), np.full((side, side), 255, np.uint8))
    return Sprite.from_foreground(Foreground(pair, np.full((side, side), 255, np.uint8)))


def test_a_square_at_its_own_size_covers_exactly_its_box() -> None:
    sprite, where = white_square(20), poses((50, 40), (20, 20))
    assert sprite.boxes(sprite.maps(where))[0].tolist() == [40, 30, 20, 20]
    expected = np.full((90, 120, 4), 100, np.uint8)
    expected[30:50, 40:60] = 255
    np.testing.assert_array_equal(painted(sprite, where), expected)


def test_a_turned_squares_box_by_hand() -> None:
    sprite = white_square(20)
    box = sprite.boxes(sprite.maps(poses((50, 40), (20, 20), np.pi / 4)))[0]
    half = 10 * np.sqrt(2)
    np.testing.assert_allclose(box, [50 - half, 40 - half, 2 * half, 2 * half])


@pytest.mark.parametrize("seed", range(40))
def test_the_box_is_that_of_the_pixels_drawn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    foreground = ProceduralTextures().foreground(generator, (48, 36))
    white = Pair(np.full_like(foreground.pair.rgb, 255), np.full_like(foreground.pair.tir, 255))
    sprite = Sprite.from_foreground(Foreground(white, foreground.mask))
    where = poses(
        tuple(generator.uniform(40, 60, 2)), tuple(generator.uniform(24, 56, 2)), generator.uniform(-0.3, 0.3)
    )
    x, y, w, h = sprite.boxes(sprite.maps(where))[0]
    drawn = painted(sprite, where)[..., 0] >= 178
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(seen, [x, y, x + w, y + h], atol=1.5)


def test_opacity_is_per_channel() -> None:
    image = painted(white_square(20), poses((50, 40), (20, 20)), opacity=(1, 1, 0, 0.5))
    assert image[40, 50].tolist() == [255, 255, 100, 177]
    assert image[5, 5].tolist() == [100, 100, 100, 100]


@pytest.mark.parametrize("center", [(0, 0), (120, 90), (-40, 40), (60, 300), (119, 2)])
def test_drawing_beyond_the_border_is_drawing_on_a_larger_image(center: tuple[float, float]) -> None:
    sprite = white_square(20)
    larger = np.full((390, 420, 4), 100, np.uint8)
    maps = sprite.maps(poses((center[0] + 150, center[1] + 50), (26, 22), 0.2))
    sprite.draw(larger, maps[0], sprite.boxes(maps)[0], np.ones(4, np.float32))
    difference = painted(sprite, poses(center, (26, 22), 0.2)).astype(int) - larger[50:140, 150:270]
    assert np.abs(difference).max() <= 2
