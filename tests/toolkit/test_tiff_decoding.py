"""TIFF files that tifffile writes: kinds that OpenCV reads, and kinds that only tifffile does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import read_image, read_pixels
from mmdistill.toolkit.video import open_frames
from tests.toolkit.tiff_files import tiff

TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "big": {"bigtiff": True},
    "tiles": {"tile": (32, 32)},
    "big endian": {"byteorder": ">"},
    "lzw": {"compression": "lzw"},
    "deflate": {"compression": "zlib", "predictor": True, "rowsperstrip": 7},
    "zstd": {"compression": "zstd"},
    "white is zero": {"photometric": "miniswhite"},
    "white is zero, lzw": {"photometric": "miniswhite", "compression": "lzw"},
}


def values(dtype: str, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (random.random((72, 96)) * 80 - 20).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(max(limits.min, -(2**40)), min(limits.max, 2**40), (72, 96)).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_depth_and_layout(tmp_path: Path, dtype: str, layout: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    stored, options = values(dtype), dict(LAYOUTS[layout])
    if dtype.endswith("64") and dtype != "float64":
        options.pop("predictor", None)  # not written
    tifffile.imwrite(tmp_path / "x.tif", stored, **options)
    wanted = stored if "white" not in layout else -stored if stored.dtype.kind == "f" else ~stored
    read = read_pixels(tmp_path / "x.tif")
    assert read.dtype == ("float32" if dtype == "float16" else dtype)
    np.testing.assert_array_equal(read, wanted)


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_one_bit(tmp_path: Path, white_is_zero: bool) -> None:
    tifffile = pytest.importorskip("tifffile")
    stored = np.random.default_rng(0).integers(0, 2, (24, 32)).astype(bool)
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="miniswhite" if white_is_zero else "minisblack")
    np.testing.assert_array_equal(read_pixels(tmp_path / "x.tif"), 255 * (stored ^ white_is_zero))


@pytest.mark.parametrize("compression", ["zstd", "jpegxl"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_colors_that_opencv_does_not_read(tmp_path: Path, compression: str, planes: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    rgb = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    stored = rgb if planes == "contig" else rgb.transpose(2, 0, 1)
    options: dict[str, Any] = {"compressionargs": {"lossless": True}} if compression == "jpegxl" else {}
    tifffile.imwrite(
        tmp_path / "x.tif", stored, photometric="rgb", planarconfig=planes, compression=compression, **options
    )
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), rgb)


@pytest.mark.parametrize("dtype", ["uint32", "float32"])
def test_pages_of_a_compressed_big_tiff(tmp_path: Path, dtype: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    stored = np.stack([values("int16", each).astype(dtype) % 1000 + each for each in range(30)])
    tifffile.imwrite(tmp_path / "x.tif", stored, bigtiff=True, compression="zstd", photometric="minisblack")
    for index, page in enumerate(stored):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / f"{index}.tif").write_bytes(tiff(page))
    stack, folder = open_frames(tir=tmp_path / "x.tif"), open_frames(tir=tmp_path / "a")
    assert len(stack) == 30
    for index in (29, 0, 7, 28):
        np.testing.assert_array_equal(stack.frame(index).tir, folder.frame(index).tir)


@pytest.mark.parametrize("compression", ["zstd", "jpeg2000"])
def test_without_the_extra_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], compression: str
) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "x.tif", values("uint8"), compression=compression)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(DataError, match=r"x\.tif: OpenCV cannot decode .* pip install 'mmdistill\[thermal\]'"):
        read_image(tmp_path / "x.tif")
    assert capfd.readouterr().err == "", "OpenCV's own lines"


def test_what_tifffile_cannot_decode_either(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "x.tif", values("uint16"), compression="zstd")
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        start = file.pages[0].dataoffsets[0]
    data = bytearray((tmp_path / "x.tif").read_bytes())
    data[start : start + 20] = bytes(20)
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.tif: expected an image, cannot decode"):
        read_image(tmp_path / "x.tif")
