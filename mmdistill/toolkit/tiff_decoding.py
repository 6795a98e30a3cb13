"""Decodes the kinds of TIFF files that OpenCV does not read, by tifffile.

These are unsigned numbers of 32 bits, whole numbers of 64 bits, floats of 16 bits, and compression by zstd, LZMA, LERC,
JPEG 2000 or JPEG XL.
"""

from __future__ import annotations

import importlib
import io
from mmap import mmap

import numpy as np

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.thermal import Pixels


def decode_first_page(data: bytes | bytearray | mmap, where: str) -> Pixels:
    """Return the first page of a TIFF file as stored, ``(H, W)`` or ``(H, W, C)`` in BGR order.

    Args:
        data: the file's content.
        where: the file's name, for errors.

    Raises:
        DataError: tifffile is not installed, or can't decode the page either.
    """
    try:
        tifffile = importlib.import_module("tifffile")
    except ModuleNotFoundError as error:
        raise DataError(
            f"{where}: OpenCV cannot decode this kind of TIFF, tifffile may: pip install 'mmdistill[thermal]'"
        ) from error
    file_object = data if isinstance(data, mmap) else io.BytesIO(data)
    file_object.seek(0)
    try:
        with tifffile.TiffFile(file_object) as file:
            page = file.pages[0]
            pixels, axes = np.asarray(page.asarray()), str(page.axes)
            is_palette = page.photometric == tifffile.PHOTOMETRIC.PALETTE
    except Exception as error:  # of many types: damage, and compressions without a decoder
        raise DataError(f"{where}: expected an image, cannot decode the file ({error})") from error
    if axes == "SYX":
        pixels = np.moveaxis(pixels, 0, 2)
    elif axes not in ("YX", "YXS"):
        raise DataError(f"{where}: expected one image, got an array with the axes {axes}")
    if is_palette:
        raise DataError(f"{where}: expected gray or RGB, got compressed numbers of a palette's colors")
    if pixels.dtype == np.float16:
        pixels = pixels.astype(np.float32)
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return np.ascontiguousarray(pixels)
