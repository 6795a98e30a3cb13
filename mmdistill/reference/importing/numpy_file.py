"""NumPy's ``.npz`` files: a zip file of ``.npy`` files, compressed or not.

What a file says of its sizes is checked before memory is made for it. Then NumPy reads the values, as in
``np.load(allow_pickle=False)``. That call alone, with a file of 254 bytes whose header states 2**29 values, allocates
2 GiB; and it unpacks 64 MiB from 65 kB, and ignores bytes behind the values.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from mmdistill.reference.errors import DataError
from mmdistill.reference.importing.torch_file import BROKEN

MOST_COMPRESSED = 32
"""How many times larger than the file its arrays may be; trained weights hardly get smaller when compressed."""

ALWAYS_ALLOWED = 1 << 20
"""Bytes that arrays may have in however small a file."""

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_UNREADABLE = (*BROKEN, AttributeError, SyntaxError, tokenize.TokenError, zlib.error)


def read_npz(path: str | Path) -> dict[str, Tensor]:
    """Return an ``.npz`` file's arrays by name.

    Raises:
        DataError: it is broken, has arrays of something else than numbers, or far more of them than fit in such a file.
    """
    try:
        content = Path(path).read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            size = sum(entry.file_size for entry in file.infolist())
            if size > ALWAYS_ALLOWED + MOST_COMPRESSED * len(content):
                raise ValueError(f"its {len(content):,} bytes are said to be {size:,}")
            return {
                entry.filename.removesuffix(".npy"): torch.from_numpy(_array(_read(file, entry)))
                for entry in file.infolist()
            }
    except _UNREADABLE as error:
        raise DataError(f"{path}: not a readable .npz file ({error})") from error


def _read(file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename!r} is compressed as NumPy never does")
    with file.open(entry) as stream:
        return stream.read(entry.file_size)  # to the end, read() would unpack all there is and cut it afterwards


def _array(content: bytes) -> NDArray[Any]:
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"an array of format {version}")
    shape, _, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("expected numbers, got Python objects")
    size = len(content) - stream.tell()
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"expected {size} bytes of values, got the shape {shape} of {dtype}")
    stream.seek(0)
    array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
    return array
