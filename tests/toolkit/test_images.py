from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.image_files import list_images
from mmdistill.toolkit.images import read_image, write_image


def noise(*shape: int, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def encoded(suffix: str, image: np.ndarray) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def test_reads_colors_in_rgb_order(tmp_path: Path) -> None:
    bgr = np.zeros((2, 3, 3), np.uint8)
    bgr[..., 0], bgr[..., 2] = 10, 200
    (tmp_path / "x.png").write_bytes(encoded(".png", bgr))
    image = read_image(tmp_path / "x.png")
    assert image.shape == (2, 3, 3)
    assert image.dtype == np.uint8
    assert image[0, 0].tolist() == [200, 0, 10]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_reads_any_number_of_channels(tmp_path: Path, channels: int) -> None:
    stored = noise(5, 7, channels)
    (tmp_path / "x.png").write_bytes(encoded(".png", stored))
    expected = np.repeat(stored, 3, axis=2) if channels == 1 else stored[..., 2::-1]
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), expected)


def test_stretches_16_bit_thermal_images_by_their_own_percentiles(tmp_path: Path) -> None:
    stored = noise(40, 50, dtype=np.uint16) // 20 + 20000
    (tmp_path / "x.tiff").write_bytes(encoded(".tiff", stored))
    ordered = np.sort(stored.ravel()).astype(float)
    low, high = (np.interp(share * (ordered.size - 1), np.arange(ordered.size), ordered) for share in (0.01, 0.99))
    expected = np.clip((stored - low) / (high - low) * 255, 0, 255)
    image = read_image(tmp_path / "x.tiff")
    assert np.abs(image[..., 0] - expected).max() <= 0.51
    assert image.min() == 0
    assert image.max() == 255


def test_a_constant_16_bit_image_does_not_divide_by_zero(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encoded(".png", np.full((4, 4), 30000, np.uint16)))
    assert read_image(tmp_path / "x.png").max() == 0


def test_16_bit_color_keeps_its_high_byte(tmp_path: Path) -> None:
    stored = noise(4, 4, 3, dtype=np.uint16)
    (tmp_path / "x.png").write_bytes(encoded(".png", stored))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), stored[..., ::-1] >> 8)


def test_colors_of_another_depth_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.tiff").write_bytes(encoded(".tiff", np.zeros((4, 4, 3), np.float32)))
    with pytest.raises(DataError, match=r"x\.tiff: expected colors of 8 or 16 bits, got 3 channels of float32"):
        read_image(tmp_path / "x.tiff")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"", "the file is empty"), (b"no image at all", "cannot decode the file")],
)
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "frame7.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"frame7\.jpg: .*{message}") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_written_sequences_are_read_again(tmp_path: Path) -> None:
    image = noise(9, 11, 3)
    write_image(tmp_path / "new" / "x.png", image)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "x.png"), image)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.png"]
    with pytest.raises(DataError, match=r"x\.txt: expected an image's suffix"):
        write_image(tmp_path / "x.txt", image)


def test_lists_images_in_natural_order(tmp_path: Path) -> None:
    for name in ("v10.jpg", "v9.JPG", "v100.png", "v9a.jpg", "notes.txt", "._v1.jpg"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["v9.JPG", "v9a.jpg", "v10.jpg", "v100.png"]


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: expected a folder of images"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"the folder has none"):
        list_images(tmp_path)


def test_reads_real_images(real_data: Path) -> None:
    for path in (*list_images(real_data / "pairs/RoadScene/tir")[:5], *list_images(real_data / "tir/horse")[:5]):
        image = read_image(path)
        assert image.ndim == 3
        assert image.std() > 5
        if "RoadScene" in str(path):
            np.testing.assert_array_equal(image[..., 0], image[..., 2])
