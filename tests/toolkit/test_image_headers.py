"""Images that are whole, cut off, with more behind them, too large, or several in one file."""

from __future__ import annotations

import re
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.image_headers import read_header
from mmdistill.toolkit.images import DEFAULT_MAX_PIXELS, MAX_PIXELS_VARIABLE, read_image, read_pixels
from tests.toolkit.tiff_files import tiff

NOISE = np.random.default_rng(0).integers(0, 256, (24, 40, 3)).astype(np.uint8)
SUFFIXES = (".png", ".jpg", ".bmp", ".webp", ".tiff", ".ppm")
PROGRESSIVE, RESTARTS = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
BYTES = st.binary(max_size=40) | st.sampled_from([b"\xff\xd9", b"\xff\xda", b"\xff\xd8\xff\xd9", b"\0" * 100, b"IEND"])


def encoded(suffix: str, image: np.ndarray = NOISE, options: tuple[int, ...] = ()) -> bytes:
    return cv2.imencode(suffix, image, options)[1].tobytes()


def jpegs() -> dict[str, bytes]:
    """JPEG files of every build."""
    plain, small = encoded(".jpg"), encoded(".jpg", NOISE[:8, :8])
    thumbnail = b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small
    return {
        "plain": plain,
        "gray": encoded(".jpg", NOISE[..., 0]),
        "progressive": encoded(".jpg", options=PROGRESSIVE),
        "restarts": encoded(".jpg", options=RESTARTS),
        "thumbnail": plain[:2] + thumbnail + plain[2:],
        "fill bytes": plain[:-2] + b"\xff\xff" + plain[-2:],
        "bytes between segments": plain[:20] + b"ab" + plain[20:],
    }


def saved(folder: Path, data: bytes, suffix: str) -> Path:
    path = folder / f"x{suffix}"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_size_is_read_from_the_header(suffix: str) -> None:
    header = read_header(encoded(suffix))
    assert header is not None
    assert (header.width, header.height, header.complete, header.num_images) == (40, 24, True, 1)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(behind=BYTES)
def test_what_lies_behind_an_image_is_ignored(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, behind: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    expected = cv2.imdecode(np.frombuffer(encoded(suffix), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read_pixels(saved(folder, encoded(suffix) + behind, suffix)), expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(kept=st.floats(0.05, 0.9999))
def test_a_cut_off_image_is_an_error(tmp_path_factory: pytest.TempPathFactory, suffix: str, kept: float) -> None:
    data = encoded(suffix)
    path = saved(tmp_path_factory.getbasetemp(), data[: int(kept * len(data))], suffix)
    with pytest.raises(DataError, match=r"x\..*the image is cut off"):
        read_image(path)


@pytest.mark.parametrize("build", jpegs())
@given(behind=BYTES)
def test_a_jpeg_ends_where_its_own_end_is(tmp_path_factory: pytest.TempPathFactory, build: str, behind: bytes) -> None:
    folder, data = tmp_path_factory.getbasetemp(), jpegs()[build]
    whole = read_pixels(saved(folder, data, ".jpg"))
    assert whole.shape[:2] == NOISE.shape[:2]
    np.testing.assert_array_equal(read_pixels(saved(folder, data + behind, ".jpg")), whole)


@pytest.mark.parametrize("build", jpegs())
@pytest.mark.parametrize("behind", [b"", b"\0" * 300, encoded(".jpg")], ids=["nothing", "zeros", "another image"])
def test_a_cut_jpeg_is_refused_whatever_follows(tmp_path: Path, build: str, behind: bytes) -> None:
    data = jpegs()[build]
    for removed in (1, 2, 3, 100, 300):
        with pytest.raises(DataError, match="cut off"):
            read_pixels(saved(tmp_path, data[:-removed] + behind, ".jpg"))


@pytest.mark.parametrize("build", ["plain", "gray", "restarts", "thumbnail"])
def test_a_jpeg_whose_pixels_end_before_its_end_marker_is_cut_off(tmp_path: Path, build: str) -> None:
    data = jpegs()[build]
    for removed in (200, 400):
        with pytest.raises(DataError, match="cut off"):
            read_pixels(saved(tmp_path, data[:-removed].rstrip(b"\xff") + b"\xff\xd9", ".jpg"))


def test_a_progressive_jpeg_without_its_last_scans_is_cut_off(tmp_path: Path) -> None:
    data = jpegs()["progressive"]
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    assert len(scans) > 5
    for scan in scans[1:]:
        with pytest.raises(DataError, match="cut off"):
            read_pixels(saved(tmp_path, data[:scan] + b"\xff\xd9", ".jpg"))
    gray = encoded(".jpg", NOISE[..., 0], PROGRESSIVE)
    assert read_pixels(saved(tmp_path, gray, ".jpg")).shape == NOISE.shape[:2]


@pytest.mark.parametrize("options", [(), PROGRESSIVE, RESTARTS])
def test_a_jpeg_of_the_color_that_decoders_fill_with_is_whole(tmp_path: Path, options: tuple[int, ...]) -> None:
    image = np.full((24, 40, 3), 128, np.uint8)
    image[:8, :8] = 7
    pixels = read_pixels(saved(tmp_path, encoded(".jpg", image, options), ".jpg"))
    assert (pixels[-8:, -8:] == 128).all()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge(suffix: str) -> bytes:
    """An image of 20000 x 20000 in few bytes; its header is enough to refuse it."""
    side = 20000
    if suffix == ".png":
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    if suffix == ".jpg":
        data = bytearray(encoded(suffix))
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", side, side)
        return bytes(data)
    if suffix == ".webp":
        flags = b"\0\0\0\0" + (side - 1).to_bytes(3, "little") * 2
        content = b"WEBPVP8X" + struct.pack("<I", 10) + flags
        return b"RIFF" + struct.pack("<I", len(content)) + content
    if suffix == ".bmp":
        header = struct.pack("<IiiHHIIiiII", 40, side, -side, 1, 8, 1, 100, 0, 0, 0, 0)
        return b"BM" + struct.pack("<IHHI", 200, 0, 0, 54) + header + b"\0" * 100
    return tiff(np.zeros((2, 2), np.uint8)).replace(struct.pack("<I", 2), struct.pack("<I", side))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_a_huge_image_is_refused_by_its_size_before_it_is_decoded(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"20000 x 20000 = 400,000,000 pixels.*100,000,000.*--max-pixels"):
        read_image(saved(tmp_path, huge(suffix), suffix))


def test_the_limit_is_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, encoded(".png"), ".png")
    for limit, sound in ((40 * 24, True), (40 * 24 - 1, False), (DEFAULT_MAX_PIXELS, True)):
        monkeypatch.setenv(MAX_PIXELS_VARIABLE, str(limit))
        if sound:
            assert read_image(path).shape == (24, 40, 3)
        else:
            with pytest.raises(DataError, match="40 x 24 = 960 pixels"):
                read_image(path)
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "many")
    with pytest.raises(DataError, match=f"{MAX_PIXELS_VARIABLE}: .*'many'"):
        read_image(path)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2)])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tiny_images_are_read(tmp_path: Path, suffix: str, shape: tuple[int, int]) -> None:
    assert read_image(saved(tmp_path, encoded(suffix, NOISE[: shape[0], : shape[1]]), suffix)).shape == (*shape, 3)


def test_a_tiff_whose_first_page_is_beyond_any_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cut off"):
        read_image(saved(tmp_path, b"II+\0\x08\0\0\0" + b"\xff" * 8, ".tif"))


@given(data=st.binary(max_size=60), start=st.sampled_from([b"", *(encoded(suffix)[:12] for suffix in SUFFIXES)]))
def test_no_bytes_end_in_another_error(tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes) -> None:
    path = saved(tmp_path_factory.getbasetemp(), start + data, ".png")
    with suppress(DataError):
        read_image(path)


GRAY = (NOISE[..., 0] // 2 + 20).astype(np.uint8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"])
def test_white_is_zero_has_one_polarity_at_every_depth(tmp_path: Path, dtype: str, order: str) -> None:
    stored = (GRAY // 2).astype(dtype)
    black, white = (
        read_image(saved(tmp_path, tiff(stored, white_is_zero=inverted, order=order), ".tif"))[..., 0].astype(int)
        for inverted in (False, True)
    )
    assert np.corrcoef(black.ravel(), stored.ravel())[0, 1] > 0.99
    assert np.corrcoef(black.ravel(), white.ravel())[0, 1] < -0.99


@pytest.mark.parametrize(
    ("dtype", "factor", "offset"), [("float32", 0.01, -5.0), ("int16", 10, -700), ("int8", 1, -100)]
)
def test_signed_and_float_thermal_images_are_stretched_like_16_bits(
    tmp_path: Path, dtype: str, factor: float, offset: float
) -> None:
    deep = read_image(saved(tmp_path, tiff(GRAY.astype(np.uint16) * 10 + 900), ".tif"))
    other = read_image(saved(tmp_path, tiff((GRAY * float(factor) + offset).astype(dtype)), ".tif"))
    assert np.abs(deep.astype(int) - other).max() <= 1
    assert (other.min(), other.max()) == (0, 255)


def test_values_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    values = (GRAY / 10).astype(np.float32)
    expected = read_image(saved(tmp_path, tiff(values), ".tif"))
    values[3, 4], values[5, 6], values[7, 8] = np.nan, np.inf, -np.inf
    image = read_image(saved(tmp_path, tiff(values), ".tif"))
    assert [image[place].tolist() for place in ((3, 4), (5, 6), (7, 8))] == [[0] * 3, [255] * 3, [0] * 3]
    assert np.abs(image.astype(int) - expected)[10:].max() <= 2
    nothing = read_image(saved(tmp_path, tiff(np.full((4, 4), np.nan, np.float32)), ".tif"))
    assert not nothing.any()


@pytest.mark.parametrize("extreme", [1e-30, 3e38])
def test_extreme_floats_do_not_overflow(tmp_path: Path, extreme: float) -> None:
    values = np.linspace(-extreme, extreme, 400).reshape(20, 20).astype(np.float32)
    image = read_image(saved(tmp_path, tiff(values), ".tif"))
    assert (np.diff(image[..., 0].ravel().astype(int)) >= 0).all()
    assert (image.min(), image.max()) == (0, 255)


def test_pages_where_one_image_is_expected_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.tif: expected one image, the TIFF file holds 3 pages"):
        read_image(saved(tmp_path, tiff(GRAY, GRAY, GRAY), ".tif"))


def test_a_thumbnail_is_no_page(tmp_path: Path) -> None:
    small = np.zeros((4, 4), np.uint8)
    for pages, subfiles in (((GRAY, small), (0, 1)), ((small, GRAY), (1, 0))):
        path = saved(tmp_path, tiff(*pages, subfiles=subfiles), ".tif")
        np.testing.assert_array_equal(read_pixels(path), GRAY)


def test_an_animation_where_one_image_is_expected_is_an_error(tmp_path: Path) -> None:
    animation = cv2.Animation()
    animation.frames = [NOISE, NOISE[::-1].copy(), NOISE[:, ::-1].copy()]
    animation.durations = [40, 40, 40]
    for suffix, name in ((".png", "PNG"), (".webp", "WebP"), (".gif", "GIF")):
        path = tmp_path / f"x{suffix}"
        assert cv2.imwriteanimation(str(path), animation)
        with pytest.raises(DataError, match=rf"expected one image, the {name} file holds 3 frames"):
            read_image(path)


def test_a_cut_tiff_is_refused(tmp_path: Path) -> None:
    whole = tiff(GRAY)
    with pytest.raises(DataError, match="cut off"):
        read_image(saved(tmp_path, whole[:-1], ".tif"))
