from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmdistill.reference.synthetic import PairTextures, ProceduralTextures, TextureSource
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.image_pairs import Pairs, open_pairs
from mmdistill.toolkit.images import write_image


def numbered_pairs(root: Path, count: int) -> Pairs:
    """Pairs in which every pixel tells its pair (red), its place (green, blue), and its place again in TIR."""
    y, x = np.mgrid[:60, :80].astype(np.uint8)
    for number in range(count):
        red = np.full_like(x, 10 * number)
        write_image(root / "rgb" / f"{number}.png", np.stack([red, y, x], axis=-1))
        write_image(root / "tir" / f"{number}.png", np.repeat((y + x)[..., None], 3, axis=2))
    return open_pairs(root)


@pytest.fixture(params=["procedural", "pairs"])
def textures(request: pytest.FixtureRequest, tmp_path: Path) -> TextureSource:
    return ProceduralTextures() if request.param == "procedural" else PairTextures(numbered_pairs(tmp_path, 5))


@pytest.mark.parametrize("size", [(96, 64), (31, 50), (400, 300)])
def test_size_and_type(textures: TextureSource, size: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    foreground = textures.foreground(generator, size)
    for pair in (textures.background(generator, size), foreground.pair):
        assert pair.rgb.shape == (size[1], size[0], 3)
        assert pair.tir.shape == (size[1], size[0])
        assert pair.rgb.dtype == pair.tir.dtype == np.uint8
    assert foreground.mask.shape == (size[1], size[0])


@pytest.mark.parametrize("seed", range(30))
def test_the_mask_fills_its_size_and_leaves_corners_out(textures: TextureSource, seed: int) -> None:
    mask = textures.foreground(np.random.default_rng(seed), (40, 60)).mask >= 128
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert rows[0] <= 2
    assert rows[-1] >= 57
    assert columns[0] <= 2
    assert columns[-1] >= 37
    assert 0.2 < mask.mean() < 0.99


def test_one_seed_one_look(textures: TextureSource) -> None:
    for make in (textures.background, lambda generator, size: textures.foreground(generator, size).pair):
        first, again, other = (make(np.random.default_rng(seed), (80, 60)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first.rgb, again.rgb)
        np.testing.assert_array_equal(first.tir, again.tir)
        assert not np.array_equal(first.rgb, other.rgb)


def test_procedural_looks_vary_between_seeds_and_modalities() -> None:
    pairs = [ProceduralTextures().background(np.random.default_rng(seed), (80, 60)) for seed in range(20)]
    tones = np.array([np.append(pair.rgb.mean(axis=(0, 1)), pair.tir.mean()) for pair in pairs])
    assert tones.std(axis=0).min() > 15
    for pair in pairs:
        assert pair.rgb.std() > 8
        assert pair.tir.std() > 4
        likeness = np.corrcoef(pair.rgb.mean(axis=2).ravel(), pair.tir.ravel())[0, 1]
        assert abs(likeness) < 0.95


def test_procedural_modalities_share_their_geometry() -> None:
    """Where RGB has an edge, TIR has one more often than elsewhere."""
    ratios = []
    for seed in range(20):
        rgb, tir = ProceduralTextures().background(np.random.default_rng(seed), (160, 120))
        visible, thermal = (
            np.abs(np.diff(image.astype(float), axis=1))[1:-1, 1:-1] for image in (rgb.mean(axis=2), tir)
        )
        ratios.append(thermal[visible > np.quantile(visible, 0.97)].mean() / thermal.mean())
    assert np.mean(ratios) > 1.3


@pytest.mark.parametrize("seed", range(10))
def test_real_regions_are_the_same_in_both_modalities(tmp_path: Path, seed: int) -> None:
    textures = PairTextures(numbered_pairs(tmp_path, 5))
    generator = np.random.default_rng(seed)
    for pair in (textures.background(generator, (60, 45)), textures.foreground(generator, (20, 30)).pair):
        places = pair.rgb[..., 1].astype(int) + pair.rgb[..., 2]
        assert np.abs(places - pair.tir).max() <= 2


def test_backgrounds_and_foregrounds_come_from_different_pairs(tmp_path: Path) -> None:
    textures = PairTextures(numbered_pairs(tmp_path, 5))
    generator = np.random.default_rng(0)
    backgrounds = {int(textures.background(generator, (40, 30)).rgb[0, 0, 0]) // 10 for _ in range(60)}
    foregrounds = {int(textures.foreground(generator, (20, 20)).pair.rgb[0, 0, 0]) // 10 for _ in range(60)}
    assert (backgrounds, foregrounds) == ({0, 2, 4}, {1, 3})
    with pytest.raises(DataError, match="expected at least 2 pairs"):
        PairTextures(textures.pairs[:1])
