"""Reads image files as 8-bit RGB, and writes them."""

from __future__ import annotations

import os
from mmap import mmap
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.flir_jpeg import read_temperatures
from mmdistill.toolkit.image_files import SUFFIXES
from mmdistill.toolkit.image_headers import ImageHeader, read_header
from mmdistill.toolkit.io import atomic_path, read_bytes
from mmdistill.toolkit.ranges import Range
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.thermal import Limits, Pixels, is_thermal, percentiles, stretch
from mmdistill.toolkit.tiff_decoding import decode_first_page
from mmdistill.toolkit.tiff_pages import select_page

MaxPixels = Annotated[int, Range(1, 10**15)]

DEFAULT_MAX_PIXELS = 100_000_000
"""Default size limit of an image, 10000 x 10000 pixels."""

MAX_PIXELS_VARIABLE = "MMDISTILL_MAX_PIXELS"
"""The environment variable with the size limit; child processes inherit it."""

COLORS = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
"""OpenCV's flags to decode an image as stored, without an alpha channel."""

_JPEG_FILL, _JPEG_BLOCK = 128, 8


def max_pixels() -> int:
    """Return the size limit of images, in pixels.

    Raises:
        DataError: the environment variable is not a positive whole number.
    """
    value = os.environ.get(MAX_PIXELS_VARIABLE, str(DEFAULT_MAX_PIXELS))
    if not (value.isascii() and value.isdecimal() and len(value) < 19 and int(value)):
        raise DataError(f"{MAX_PIXELS_VARIABLE}: expected a positive whole number, got {value!r}")
    return int(value)


def set_max_pixels(count: MaxPixels) -> None:
    """Set the size limit of images, in pixels, for this process and its child processes."""
    os.environ[MAX_PIXELS_VARIABLE] = str(count)


def read_image(path: str | Path) -> Image:
    """Read an image of 1, 3 or 4 channels as ``(H, W, 3)`` uint8, RGB.

    A thermal image (one channel of more than 8 bits) is stretched by its own percentiles; see ``to_rgb``. Frames of a
    video share a range instead; see ``ThermalRange``.

    Raises:
        DataError: the file is missing, empty, truncated, too large, not an image, of an unsupported depth, or
            contains several images.
    """
    return to_rgb(read_pixels(path))


def read_pixels(path: str | Path, *, alpha: bool = False) -> Pixels:
    """Read an image as stored, ``(H, W)`` or ``(H, W, C)`` in BGR order; raises as ``read_image``.

    Of a radiometric JPEG file of a FLIR camera, the temperatures are read, ``(H, W)`` in degrees Celsius.

    Args:
        path: the file.
        alpha: whether to keep an alpha channel, the fourth; by default it is left out.
    """
    path = Path(path)
    data = read_bytes(path)
    if not data:
        raise DataError(f"{path}: expected an image, the file is empty")
    header = read_header(data)
    if header is None:
        raise DataError(f"{path}: expected an image, cannot decode the file")
    if not header.complete:
        raise DataError(f"{path}: the image is cut off, its end is missing after {len(data)} bytes")
    if header.num_images > 1:
        unit = "pages" if header.format == "TIFF" else "frames"
        hint = "; a TIFF file opened as a video has one frame per page" if header.format == "TIFF" else ""
        raise DataError(f"{path}: expected one image, the {header.format} file holds {header.num_images} {unit}{hint}")
    if header.radiometric:
        check_size(header.width, header.height, str(path))
        pixels = read_temperatures(data, str(path))
        check_pixels(pixels, str(path))
        return pixels
    if header.directory:
        page = bytearray(data)
        select_page(page, header.directory)
        return decode(page, header, str(path), alpha=alpha)
    return decode(data, header, str(path), alpha=alpha)


def decode(data: bytes | bytearray | mmap, header: ImageHeader, where: str, *, alpha: bool = False) -> Pixels:
    """Decode an image.

    Args:
        data: the file's content; the first of several images is decoded.
        header: the file's header.
        where: the file's name, for errors.
        alpha: whether to keep an alpha channel.

    Raises:
        DataError: the image is too large, damaged, or has an unsupported depth or number of channels.
    """
    check_size(header.width, header.height, where)
    if header.problem:
        raise DataError(f"{where}: {header.format} image of {header.problem}")
    encoded = np.frombuffer(data, np.uint8)
    if header.end:
        encoded = encoded[: header.end]
    pixels = _decode(encoded, cv2.IMREAD_UNCHANGED if alpha else COLORS) if header.by_opencv else None
    by_opencv = pixels is not None
    if pixels is None and header.format == "TIFF":
        pixels = decode_first_page(data, where)
        check_size(pixels.shape[1], pixels.shape[0], where)
    if pixels is None:
        raise DataError(f"{where}: expected an image, cannot decode the file")
    if header.format == "JPEG" and _is_padded(pixels, encoded):
        raise DataError(f"{where}: the image is cut off, its last rows are missing")
    check_pixels(pixels, where)
    if header.white_is_zero and not (by_opencv and pixels.itemsize == 1):  # OpenCV inverts 8-bit images itself
        pixels = -pixels if pixels.dtype.kind == "f" else ~pixels
    return pixels


def check_size(width: int, height: int, where: str) -> None:
    """Refuse an image above the size limit.

    Args:
        width: pixels.
        height: pixels.
        where: the file's name, for errors.

    Raises:
        DataError: the image has more than ``max_pixels()``.
    """
    if width * height > max_pixels():
        limit = f"more than the limit of {max_pixels():,}; --max-pixels or {MAX_PIXELS_VARIABLE} sets the limit"
        raise DataError(f"{where}: the image has {width} x {height} = {width * height:,} pixels, {limit}")


def check_pixels(pixels: Pixels, where: str) -> None:
    """Refuse an array that is not an image of 1, 3 or 4 channels with 8 or 16 bits, or a thermal image.

    Raises:
        DataError: the array has another shape or type.
    """
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise DataError(f"{where}: expected an image of 1, 3 or 4 channels, got an array of shape {pixels.shape}")
    if not pixels.size:
        raise DataError(f"{where}: expected an image, got {pixels.shape[1]} x {pixels.shape[0]} pixels")
    if pixels.dtype not in (np.uint8, np.uint16) and (channels > 1 or pixels.dtype.kind not in "iuf"):
        raise DataError(f"{where}: expected colors of 8 or 16 bits, got {channels} channels of {pixels.dtype}")


def to_rgb(pixels: Pixels, limits: Limits | None = None) -> Image:
    """Convert an image as stored to ``(H, W, 3)`` uint8, RGB.

    One channel is repeated three times. Thermal values (see ``is_thermal``) are mapped linearly from the limits to 0
    and 255; NaN becomes 0. 16-bit color keeps its high byte.

    Args:
        pixels: ``(H, W)`` or ``(H, W, C)`` in BGR order.
        limits: the thermal values mapped to black and white; by default the image's 1st and 99th percentile.
    """
    if is_thermal(pixels):
        pixels = stretch(pixels.reshape(*pixels.shape[:2], -1)[..., 0], limits or percentiles(pixels) or (0.0, 0.0))
    elif pixels.dtype == np.uint16:
        pixels = (pixels // 256).astype(np.uint8)
    conversion = cv2.COLOR_GRAY2RGB if pixels.ndim == 2 or pixels.shape[2] == 1 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, conversion), dtype=np.uint8)


def write_image(path: str | Path, image: Image) -> None:
    """Write an image ``(H, W, 3)``, RGB, in the format of the suffix of ``path``.

    Raises:
        DataError: no image format has this suffix.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: expected an image's suffix, one of {' '.join(sorted(SUFFIXES))}")
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def _decode(encoded: NDArray[np.uint8], flags: int = COLORS) -> Pixels | None:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the error names the file
    try:
        pixels = cv2.imdecode(encoded, flags)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)
    return None if pixels is None else np.asarray(pixels)


def _is_padded(pixels: Pixels, encoded: NDArray[np.uint8]) -> bool:
    """Return whether the decoder padded a JPEG whose pixels end before its end marker.

    The padding is gray 128, which may also be the image's own color. If the last block has this color, the file is
    decoded again with extra data after its pixels. The decoder ignores the extra data if no pixel is missing.
    """
    height, width = ((side - 1) % _JPEG_BLOCK + 1 for side in pixels.shape[:2])
    corners = (pixels, pixels[:, ::-1], pixels[::-1], pixels[::-1, ::-1])  # an orientation tag may rotate the image
    # Colors bleed into the block's first row and column.
    blocks = (corner[: max(height - 1, 1), : max(width - 1, 1)] for corner in corners)
    if not any((block == _JPEG_FILL).all() for block in blocks):
        return False
    extra = np.full(4096, 0x55, np.uint8)
    again = _decode(np.concatenate([encoded[:-2], extra, encoded[-2:]]))
    return again is None or not np.array_equal(pixels, again)
