"""Images on disk: reading any of them as 8-bit RGB, writing them whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.data.image_files import SUFFIXES
from mmdistill.reference.data.sequence import Image
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import atomic_path

Pixels = NDArray[Any]
"""An image as it is stored: ``(H, W)`` or ``(H, W, 3)`` in BGR order, uint8 or uint16."""

Limits = tuple[float, float]
"""The darkest and the brightest 16-bit value that are told apart."""

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG", b"IEND\xaeB`\x82"


def read_image(path: str | Path) -> Image:
    """Read an image of 8 or 16 bits and 1, 3 or 4 channels as ``(H, W, 3)`` uint8, RGB.

    See ``to_rgb``: a 16-bit image of one channel is stretched by its own percentiles. Frames of a video, which must
    not flicker, are stretched by a range that they share: ``data/frames/steady_range.py``.

    Raises:
        DataError: the file is missing, empty, cut off, not an image, or of another depth.
    """
    return to_rgb(read_pixels(path))


def read_pixels(path: str | Path) -> Pixels:
    """Read an image as it is stored, ``(H, W)`` or ``(H, W, 3)`` in BGR order, of 8 or 16 bits; see ``read_image``."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the image: {error.strerror}") from error
    if not data:
        raise DataError(f"{path}: expected an image, the file is empty")
    if _cut_off(data):
        raise DataError(f"{path}: the image is cut off, its end is missing after {len(data)} bytes")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise DataError(f"{path}: expected an image, cannot decode the file")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path}: expected an image of 8 or 16 bits, got {pixels.dtype}")
    return np.asarray(pixels)


def to_rgb(pixels: Pixels, limits: Limits | None = None) -> Image:
    """Return pixels of 8 or 16 bits, ``(H, W)`` or ``(H, W, 3)`` in BGR order, as ``(H, W, 3)`` uint8, RGB.

    One channel is repeated three times. 16 bits of one channel, as thermal cameras give them (or of three that are
    equal), are stretched so that the limits become 0 and 255; 16-bit colour keeps its high byte.

    Args:
        pixels: an image as it is stored.
        limits: the darkest and the brightest 16-bit value that are told apart; the image's own 1st and 99th percentile
            if not given.
    """
    if pixels.dtype == np.uint16:
        if is_thermal(pixels):
            pixels = _stretched(pixels.reshape(*pixels.shape[:2], -1)[..., 0], limits or percentiles(pixels))
        else:
            pixels = (pixels // 256).astype(np.uint8)
    conversion = cv2.COLOR_GRAY2RGB if pixels.ndim == 2 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, conversion), dtype=np.uint8)


def is_thermal(pixels: Pixels) -> bool:
    """Whether these are 16 bits of one channel, or of several equal ones: values that need a range to be seen."""
    return pixels.dtype == np.uint16 and (pixels.ndim == 2 or bool((pixels == pixels[..., :1]).all()))


def percentiles(pixels: Pixels) -> Limits:
    """Return the 1st and the 99th percentile of all values."""
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


def _cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG file ends too early; decoders fill the rest with grey."""
    if data.startswith(JPEG_START):
        # The end must follow the last scan: an embedded thumbnail has an end of its own. Looked for from behind, it is
        # found without passing over the image.
        end = data.rfind(JPEG_END)
        return end < 0 or data.find(JPEG_SCAN, end) >= 0
    return data.startswith(PNG_START) and PNG_END not in data


def _stretched(values: NDArray[Any], limits: Limits) -> NDArray[np.uint8]:
    low, high = limits
    stretched = (values - low) * (255 / max(high - low, 1))
    return np.asarray(np.clip(np.rint(stretched), 0, 255), dtype=np.uint8)
