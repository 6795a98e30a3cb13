"""Images on disk: reading any of them as 8-bit RGB, writing them whole."""

from __future__ import annotations

import os
from mmap import mmap
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.image_files import SUFFIXES
from mmdistill.toolkit.image_headers import ImageHeader, read_header
from mmdistill.toolkit.io import atomic_path, read_bytes
from mmdistill.toolkit.ranges import Range
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.tiff_pages import select_page

Pixels = NDArray[Any]
"""An image as it is stored: ``(H, W)`` or ``(H, W, C)`` in BGR order, of 1, 3 or 4 channels. uint8 or uint16; thermal
images of one channel also of other integers or of floats."""

Limits = tuple[float, float]
"""The thermal values that become black and white."""

MaxPixels = Annotated[int, Range(1, 10**15)]
"""What the limit of an image's pixels may be."""

DEFAULT_MAX_PIXELS = 100_000_000
"""Pixels of the largest image that is read, unless the environment says otherwise: 10000 x 10000."""

MAX_PIXELS_VARIABLE = "MMDISTILL_MAX_PIXELS"
"""The environment variable that raises or lowers the limit; processes that this one starts inherit it."""

_JPEG_FILL, _BLOCK = 128, 8


def max_pixels() -> int:
    """Return the number of pixels of the largest image that is read.

    Raises:
        DataError: the environment variable is no positive whole number.
    """
    value = os.environ.get(MAX_PIXELS_VARIABLE, str(DEFAULT_MAX_PIXELS))
    if not (value.isascii() and value.isdecimal() and len(value) < 19 and int(value)):
        raise DataError(f"{MAX_PIXELS_VARIABLE}: expected a positive whole number, got {value!r}")
    return int(value)


def set_max_pixels(count: MaxPixels) -> None:
    """Set the number of pixels of the largest image that is read, for this process and those it starts."""
    os.environ[MAX_PIXELS_VARIABLE] = str(count)


def read_image(path: str | Path) -> Image:
    """Read an image of 1, 3 or 4 channels as ``(H, W, 3)`` uint8, RGB.

    See ``to_rgb``: a thermal image (one channel of more than 8 bits) is stretched by its own percentiles. Frames of a
    video, which must not flicker, are stretched by a range that they share: ``data/frames/steady_range.py``.

    Raises:
        DataError: the file is missing, empty, cut off, too large, not an image, or of another depth; or it holds
            several images.
    """
    return to_rgb(read_pixels(path))


def read_pixels(path: str | Path) -> Pixels:
    """Read an image as it is stored, ``(H, W)`` or ``(H, W, C)`` in BGR order; see ``read_image``."""
    path = Path(path)
    data = read_bytes(path)
    if not data:
        raise DataError(f"{path}: expected an image, the file is empty")
    header = read_header(data)
    if header is None:
        raise DataError(f"{path}: expected an image, cannot decode the file")
    if not header.whole:
        raise DataError(f"{path}: the image is cut off, its end is missing after {len(data)} bytes")
    if header.images > 1:
        many = "pages" if header.format == "TIFF" else "frames"
        hint = "; a TIFF given as a video has a frame for each page" if header.format == "TIFF" else ""
        raise DataError(f"{path}: expected one image, the {header.format} file holds {header.images} {many}{hint}")
    if header.directory:
        page = bytearray(data)
        select_page(page, header.directory)
        return decode(page, header, str(path))
    return decode(data, header, str(path))


def decode(data: bytes | bytearray | mmap, header: ImageHeader, where: str) -> Pixels:
    """Decode an image.

    Args:
        data: the file; of several images the first is decoded.
        header: what the file says of itself.
        where: the file's name, for errors.

    Raises:
        DataError: it is too large, damaged, or of a depth or number of channels that is not read.
    """
    check_size(header.width, header.height, where)
    if header.problem:
        raise DataError(f"{where}: {header.format} image of {header.problem}")
    encoded = np.frombuffer(data, np.uint8)
    if header.end:
        encoded = encoded[: header.end]
    pixels = _decoded(encoded)
    if pixels is None:
        raise DataError(f"{where}: expected an image, cannot decode the file")
    if header.format == "JPEG" and _is_filled(pixels, encoded):
        raise DataError(f"{where}: the image is cut off, its last rows are missing")
    check_pixels(pixels, where)
    if header.white_is_zero and pixels.itemsize > 1:  # the decoder itself does so for 8 bits
        pixels = -pixels if pixels.dtype.kind == "f" else ~pixels
    return pixels


def check_size(width: int, height: int, where: str) -> None:
    """Refuse an image of too many pixels.

    Raises:
        DataError: it has more than ``max_pixels()``.
    """
    if width * height > max_pixels():
        limit = f"more than the limit of {max_pixels():,}; --max-pixels or {MAX_PIXELS_VARIABLE} sets the limit"
        raise DataError(f"{where}: the image has {width} x {height} = {width * height:,} pixels, {limit}")


def check_pixels(pixels: Pixels, where: str) -> None:
    """Refuse what is no image of 1, 3 or 4 channels, of 8 or 16 bits or thermal.

    Raises:
        DataError: it is none.
    """
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise DataError(f"{where}: expected an image of 1, 3 or 4 channels, got an array of shape {pixels.shape}")
    if not pixels.size:
        raise DataError(f"{where}: expected an image, got {pixels.shape[1]} x {pixels.shape[0]} pixels")
    if pixels.dtype not in (np.uint8, np.uint16) and (channels > 1 or pixels.dtype.kind not in "iuf"):
        raise DataError(f"{where}: expected colors of 8 or 16 bits, got {channels} channels of {pixels.dtype}")


def to_rgb(pixels: Pixels, limits: Limits | None = None) -> Image:
    """Return pixels, ``(H, W)`` or ``(H, W, C)`` in BGR order, as ``(H, W, 3)`` uint8, RGB.

    One channel is repeated three times. Thermal values (see ``is_thermal``) are stretched so that the limits become 0
    and 255; NaN becomes 0. 16-bit color keeps its high byte.

    Args:
        pixels: an image as it is stored.
        limits: the thermal values that become black and white; the image's own 1st and 99th percentile if not given.
    """
    if is_thermal(pixels):
        pixels = _stretched(pixels.reshape(*pixels.shape[:2], -1)[..., 0], limits or percentiles(pixels) or (0.0, 0.0))
    elif pixels.dtype == np.uint16:
        pixels = (pixels // 256).astype(np.uint8)
    conversion = cv2.COLOR_GRAY2RGB if pixels.ndim == 2 or pixels.shape[2] == 1 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, conversion), dtype=np.uint8)


def is_thermal(pixels: Pixels) -> bool:
    """Whether these are values that need a range to be seen: one channel (or several equal ones), not of uint8."""
    return pixels.dtype != np.uint8 and (pixels.ndim == 2 or bool((pixels == pixels[..., :1]).all()))


def percentiles(pixels: Pixels) -> Limits | None:
    """Return the 1st and the 99th percentile of all finite values; None if there is no such value."""
    if pixels.dtype.kind == "f":
        pixels = pixels[np.isfinite(pixels)].astype(np.float64)
        if not pixels.size:
            return None
    low, high = np.percentile(pixels, (1, 99))
    return float(low), float(high)


def write_image(path: str | Path, image: Image) -> None:
    """Write an image ``(H, W, 3)``, RGB; the suffix of ``path`` chooses the format.

    Raises:
        DataError: no image format has this suffix.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: expected an image's suffix, one of {' '.join(sorted(SUFFIXES))}")
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def _decoded(encoded: NDArray[np.uint8]) -> Pixels | None:
    try:
        pixels = cv2.imdecode(encoded, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    except cv2.error:
        return None
    return None if pixels is None else np.asarray(pixels)


def _is_filled(pixels: Pixels, encoded: NDArray[np.uint8]) -> bool:
    """Whether the decoder filled up a JPEG whose pixels end before its end marker.

    The filling is gray 128, which may also be the image's own color. So where the last block is of it, the file is
    decoded once more with other data behind its pixels: this is ignored if all pixels are there.
    """
    height, width = ((side - 1) % _BLOCK + 1 for side in pixels.shape[:2])
    corners = (pixels, pixels[:, ::-1], pixels[::-1], pixels[::-1, ::-1])  # an orientation tag may have turned it
    # Colors bleed into the block's first row and column.
    blocks = (corner[: max(height - 1, 1), : max(width - 1, 1)] for corner in corners)
    if not any((block == _JPEG_FILL).all() for block in blocks):
        return False
    more = np.full(4096, 0x55, np.uint8)
    other = _decoded(np.concatenate([encoded[:-2], more, encoded[-2:]]))
    return other is None or not np.array_equal(pixels, other)


def _stretched(values: NDArray[Any], limits: Limits) -> NDArray[np.uint8]:
    low, high = limits
    if values.dtype.kind == "f":
        values, width = values.astype(np.float64), max(high - low, float(np.finfo(np.float32).tiny))
    else:
        width = max(high - low, 1)
    with np.errstate(invalid="ignore", over="ignore"):
        stretched = np.clip(np.rint((values - low) * (255 / width)), 0, 255)
    return np.asarray(np.nan_to_num(stretched, copy=False), dtype=np.uint8)
