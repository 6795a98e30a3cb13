"""Textures from photographs and cut-outs: crops, alpha, and a simulated thermal side."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdistill.reference.synthetic import PictureTextures, SyntheticSequence, SyntheticSettings, pictures
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import read_pixels, write_image


def photograph(root: Path) -> Path:
    """Every pixel tells its position: green is y, blue is x."""
    y, x = np.mgrid[:120, :160].astype(np.uint8)
    path = root / "photograph.png"
    write_image(path, np.stack([np.full_like(x, 90), y, x], axis=-1))
    return path


def cutout(root: Path, size: tuple[int, int] = (30, 40), name: str = "cutout.png") -> Path:
    """A red ellipse in a transparent border of 10 pixels; transparent pixels are green."""
    picture = np.zeros((size[1] + 20, size[0] + 20, 4), np.uint8)
    picture[..., 1] = 255
    cv2.ellipse(picture, (((size[0] + 19) / 2, (size[1] + 19) / 2), size, 0.0), (0, 0, 220, 255), -1)
    path = root / name
    cv2.imwrite(str(path), picture)
    return path


@pytest.fixture
def textures(tmp_path: Path) -> PictureTextures:
    return PictureTextures([photograph(tmp_path)], [cutout(tmp_path)])


def test_alpha_is_kept_on_request(tmp_path: Path) -> None:
    path = cutout(tmp_path)
    assert read_pixels(path).shape == (60, 50, 3)
    pixels = read_pixels(path, alpha=True)
    assert pixels.shape == (60, 50, 4)
    assert set(np.unique(pixels[..., 3])) == {0, 255}


@pytest.mark.parametrize("seed", range(8))
def test_a_background_is_a_crop_of_the_photograph(
    textures: PictureTextures, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "NUM_CLUTTER", (0, 1))
    pair = textures.background(np.random.default_rng(seed), (64, 48))
    assert pair.rgb.shape == (48, 64, 3)
    assert pair.tir.shape == (48, 64)
    green, blue = (pair.rgb[..., channel].astype(float) for channel in (1, 2))
    steps = [np.abs(np.diff(green, axis=0)).mean(), np.abs(np.diff(blue, axis=1)).mean()]
    assert steps[0] == pytest.approx(steps[1], rel=0.1)  # no stretch
    assert 0.3 < steps[0] < 2.6
    assert np.abs(np.diff(green, axis=1)).max() == 0


def test_cutouts_lie_in_the_background(textures: PictureTextures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "NUM_CLUTTER", (5, 6))
    rgb, tir = textures.background(np.random.default_rng(0), (160, 120))
    covered = (rgb[..., 0] == 220) & (rgb[..., 1] == 0)
    assert 0.01 < covered.mean() < 0.6
    assert tir.std() > 0


@pytest.mark.parametrize("size", [(60, 80), (20, 60), (15, 9)])
def test_a_foreground_fills_its_size_in_its_own_color(textures: PictureTextures, size: tuple[int, int]) -> None:
    foreground = textures.foreground(np.random.default_rng(0), size)
    assert foreground.mask.shape == (size[1], size[0])
    inside = foreground.mask >= 128
    assert inside.any(axis=1)[1:-1].all()
    assert inside.any(axis=0)[1:-1].all()
    assert inside.mean() == pytest.approx(np.pi / 4, abs=0.08)
    visible = foreground.pair.rgb[foreground.mask > 8].astype(int)
    assert np.abs(visible - (220, 0, 0)).max() <= 2  # no green of transparent pixels
    assert foreground.pair.tir.shape == inside.shape


def test_a_cutout_of_a_similar_shape_is_used(tmp_path: Path) -> None:
    files = [cutout(tmp_path, (20, 80), "tall.png"), cutout(tmp_path, (80, 20), "wide.png")]
    cv2.imwrite(str(files[0]), cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]])  # blue
    textures = PictureTextures([photograph(tmp_path)], files)
    colors = [
        textures.foreground(np.random.default_rng(seed), size).pair.rgb[15:25, 15:25].mean(axis=(0, 1))
        for seed in range(20)
        for size in ((40, 160), (160, 40))
    ]
    assert np.mean([color[2] > color[0] for color in colors[::2]]) > 0.8
    assert np.mean([color[0] > color[2] for color in colors[1::2]]) > 0.8


def test_they_make_video(textures: PictureTextures) -> None:
    settings = SyntheticSettings(size=(120, 90), target_size=(20, 30), length=3)
    first, again = (SyntheticSequence(settings, textures, 5).frame(2) for _ in range(2))
    for image, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(image, same)


def test_errors_name_the_file(tmp_path: Path) -> None:
    picture, clear = photograph(tmp_path), tmp_path / "clear.png"
    cv2.imwrite(str(clear), np.zeros((9, 9, 4), np.uint8))
    for photographs, cutouts in (([], [clear]), ([picture], [])):
        with pytest.raises(DataError, match="expected at least 1"):
            PictureTextures(photographs, cutouts)
    for path, message in ((clear, "every pixel is transparent"), (picture, "with an alpha channel")):
        with pytest.raises(DataError, match=f"{path.name}: expected an .*{message}"):
            PictureTextures([picture], [path]).foreground(np.random.default_rng(0), (20, 20))
