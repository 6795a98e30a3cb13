"""Reads the temperatures in radiometric JPEG files of FLIR cameras, by flyr.

Such a file shows a picture in false colors, scaled to its own range, often blended with a photograph. The measured
values are in its FLIR segments. Only those can be compared between frames, so only those are read.
"""

from __future__ import annotations

import importlib
import io
import struct

import numpy as np

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.thermal import Pixels

SEGMENT_START = b"FLIR\0"
"""How the content of a FLIR segment begins. A format version, the segment's number and the last number follow."""

_RAW_DATA = 1  # the type of the record with the measured values
_HEADER, _ENTRY = 64, 32  # bytes
_VERSIONS = range(100, 200)


def has_temperatures(segment: bytes) -> bool:
    """Return whether a FLIR segment lists measured values; only the first segment of a file does.

    The segments together are a file of FLIR's format FFF. Its header has the position of a directory, which lists
    records by their type.

    Args:
        segment: the content of the segment, from ``SEGMENT_START`` on.
    """
    content = segment[len(SEGMENT_START) + 3 :]
    if content[:4] not in (b"FFF\0", b"AFF\0") or len(content) < _HEADER:
        return False
    for order in "><":
        version, start, count = struct.unpack_from(order + "III", content, 20)
        if version in _VERSIONS:
            ends = range(start + _ENTRY, min(start + count * _ENTRY, len(content)) + 1, _ENTRY)
            return any(struct.unpack_from(order + "H", content, end - _ENTRY)[0] == _RAW_DATA for end in ends)
    return False


def read_temperatures(data: bytes, where: str) -> Pixels:
    """Return the temperatures of a radiometric JPEG file ``(H, W)``, degrees Celsius.

    Args:
        data: the file's content.
        where: the file's name, for errors.

    Raises:
        DataError: flyr is not installed, or can't read the values.
    """
    try:
        flyr = importlib.import_module("flyr")
    except ModuleNotFoundError as error:
        raise DataError(
            f"{where}: reading the temperatures of a FLIR JPEG needs flyr; pip install 'mmdistill[thermal]'"
        ) from error
    try:
        return np.asarray(flyr.unpack(io.BytesIO(data)).celsius)
    except Exception as error:  # flyr does not check what it reads
        raise DataError(f"{where}: flyr cannot read the temperatures of this FLIR JPEG ({error!r})") from error
