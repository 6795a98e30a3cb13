"""Radiometric JPEG files in the layout that ExifTool documents for FLIR cameras; no camera wrote them."""

from __future__ import annotations

import struct
from typing import NamedTuple

import cv2
import numpy as np


class Planck(NamedTuple):
    """The constants of a camera's calibration."""

    r1: float = 21106.77
    b: float = 1501.0
    f: float = 1.0
    o: int = -7340
    r2: float = 0.012545258

    def celsius(self, raw: np.ndarray) -> np.ndarray:
        """Temperatures of measured values, for an emissivity of 1 at no distance."""
        return self.b / np.log(self.r1 / (self.r2 * (raw.astype(np.float64) + self.o)) + self.f) - 273.15


def flir_jpeg(raw: np.ndarray, *, png: bool = False, planck: Planck | None = None, measured: bool = True) -> bytes:
    """A JPEG with measured values.

    Args:
        raw: ``(H, W)``, uint16.
        png: whether the values are stored as a PNG image, whose byte order cameras confuse.
        planck: the calibration.
        measured: whether the file lists the values; without, it is an ordinary JPEG with FLIR's segments.
    """
    planck = planck or Planck()
    height, width = raw.shape
    picture = np.zeros((2 * height, 2 * width, 3), np.uint8)
    picture[..., 1] = np.linspace(0, 255, 2 * width)
    body = cv2.imencode(".png", raw.byteswap())[1].tobytes() if png else raw.astype("<u2").tobytes()
    values = struct.pack("<3H", 2, width, height).ljust(32, b"\0") + body
    camera = bytearray(900)
    for offset, value in {
        **{32: 1.0, 36: 0.0, 40: 293.15, 44: 293.15, 48: 293.15, 52: 1.0, 60: 0.5},  # the scene
        **{88: planck.r1, 92: planck.b, 96: planck.f, 780: planck.r2},
        **{112: 0.006569, 116: 0.01262, 120: -0.002276, 124: -0.00667, 128: 1.9},  # the atmosphere
    }.items():
        struct.pack_into("<f", camera, offset, value)
    struct.pack_into("<i", camera, 776, planck.o)

    entries = 16  # cameras leave some free; flyr does not find the last two
    start = 64 + 32 * entries
    content = b"FFF\0" + b"test".ljust(16, b"\0") + struct.pack(">3I", 100, 64, entries).ljust(44, b"\0")
    if measured:
        content += struct.pack(">HH7I", 1, 3 if png else 2, 100, 1, start, len(values), 0, 0, 0)
    content += struct.pack(">HH7I", 32, 1, 100, 1, start + len(values), len(camera), 0, 0, 0)
    content = content.ljust(start, b"\0") + values + camera
    parts = [content[at : at + 65000] for at in range(0, len(content), 65000)]
    segments = b"".join(
        b"\xff\xe1" + struct.pack(">H", len(part) + 10) + b"FLIR\0\1" + bytes([number, len(parts) - 1]) + part
        for number, part in enumerate(parts)
    )
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    return jpeg[:2] + segments + jpeg[2:]
