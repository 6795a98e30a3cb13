"""TIFF files as cameras and other programs write them, which OpenCV does not."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

FORMATS = {"u": 1, "i": 2, "f": 3}


def tiff(*pages: np.ndarray, white_is_zero: bool = False, order: str = "<", subfiles: Sequence[int] = ()) -> bytes:
    """A file of uncompressed pages of one channel.

    Args:
        pages: ``(H, W)`` of any number.
        white_is_zero: whether the file says that small values are bright.
        order: of the bytes.
        subfiles: each page's kind: 1 is a thumbnail.
    """
    content = bytearray(struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 0))
    pointer = 4
    for page, subfile in zip(pages, subfiles or [0] * len(pages), strict=True):
        height, width = page.shape
        pixels = page.astype(page.dtype.newbyteorder(order)).tobytes()
        struct.pack_into(order + "I", content, pointer, len(content))
        fields = (
            *((254, subfile), (256, width), (257, height), (258, 8 * page.itemsize), (259, 1)),
            *((262, 0 if white_is_zero else 1), (273, len(content) + 2 + 12 * 11 + 4), (277, 1), (278, height)),
            *((279, len(pixels)), (339, FORMATS[page.dtype.kind])),
        )
        short = {258, 259, 262, 277, 339}
        content += struct.pack(order + "H", len(fields))
        for tag, value in fields:
            kind = 3 if tag in short else 4
            content += struct.pack(
                order + "HHI" + ("HH" if kind == 3 else "I"), tag, kind, 1, value, *([0] * (kind == 3))
            )
        pointer = len(content)
        content += struct.pack(order + "I", 0) + pixels
    return bytes(content)
