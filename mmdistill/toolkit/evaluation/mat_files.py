"""Result files of MATLAB: a matrix of boxes, or the ``results`` of OTB's and LSOTB-TIR's toolkits.

SciPy reads them, but trusts what a file states. Measured with SciPy 1.17: a cell array of 2**28 entries in a file of
184 bytes takes 2 GiB of memory and 5 s. 60,000 cells inside each other, in 3 MB, crash the process, and so does one
changed byte in the type of an element. Therefore the layout of a file is checked before SciPy reads it.
"""

from __future__ import annotations

import importlib
import itertools
import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import MAX_TEXT_BYTES, open_regular_file

_RECTANGLES = ("rect", "4corner")
"""What ``results{1}.type`` may be: ``x y w h``, or corners."""

_HDF5 = b"MATLAB 7.3"

_MAX_NESTING = 20
"""Cells and structures inside each other; OTB's files have three."""

_MAX_AXES = 32
"""SciPy refuses more."""

_MAX_FIELDS, _MAX_ENTRIES = 1000, 100_000
"""Fields of a structure; arrays in a cell or in a structure."""

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13}
_LETTERS = {*_NUMBERS, 16, 17, 18}
"""Types of elements."""

_CELL, _STRUCTURE, _OBJECT, _TEXT, _SPARSE = range(1, 6)
_UINT64, _FUNCTION, _OPAQUE = range(15, 18)
"""Classes of arrays. From ``_SPARSE`` to ``_UINT64`` they hold numbers."""


def read_mat_rows(path: str | Path) -> Array:
    """Read the boxes of a MATLAB file, ``(T, 4)`` as ``x y w h`` or ``(T, 8)`` as corners, pixels.

    The file holds ``results``, a structure or a cell with one, whose field ``res`` is the boxes; or one matrix of 4 or
    8 columns under any name.

    Raises:
        DataError: SciPy is not installed, no MATLAB file that it reads, or no boxes in it.
    """
    content = _load(path)
    matrix = _result(content["results"], path) if _is_structure(content.get("results")) else _only_matrix(content, path)
    rows = np.asarray(matrix)
    if rows.dtype.kind not in "fiu" or rows.ndim != 2 or rows.shape[1] not in (4, 8) or len(rows) == 0:
        raise DataError(f"{path}: expected boxes of 4 or 8 columns, got {_described(matrix)}")
    return rows.astype(np.float64)


def _load(path: str | Path) -> dict[str, Any]:
    try:
        # Slow to import, and an extra: nothing else needs it.
        scipy_io = importlib.import_module("scipy.io")
    except ModuleNotFoundError as error:
        raise DataError(
            f"{path}: a MATLAB file is read with SciPy, which is not installed; pip install 'mmdistill[mat]', or save "
            "the boxes as text"
        ) from error
    with open_regular_file(path) as file:
        if file.seek(0, 2) > MAX_TEXT_BYTES:
            raise DataError(f"{path}: expected at most {MAX_TEXT_BYTES:,} bytes, the file is larger")
        file.seek(0)
        if file.read(len(_HDF5)) == _HDF5:
            raise DataError(f"{path}: MATLAB 7.3 files are not read; in MATLAB, save them with the option -v7")
        file.seek(0)
        try:
            _check_layout(file.read())
            file.seek(0)
            content: dict[str, Any] = scipy_io.loadmat(file, squeeze_me=False)
        except Exception as error:  # a damaged file ends in errors of many kinds, zlib's and NumPy's among them
            raise DataError(f"{path}: expected a MATLAB file of version 4 to 7, it can't be read ({error})") from error
    return {name: value for name, value in content.items() if not name.startswith("__")}


def _check_layout(content: bytes) -> None:
    """Check that a file of version 5 to 7 has what it states, and what SciPy reads.

    Raises:
        ValueError: an element is larger than the file, or of another type; arrays are nested too deep; ...
    """
    if 0 in content[:4]:  # version 4: SciPy checks its sizes
        return
    order = "<" if content[126:128] == b"IM" else ">"
    unpacked = 0
    for kind, body in _elements(memoryview(content)[_HEADER_BYTES:], order, alignment=1):
        inner: Iterable[tuple[int, memoryview]] = [(kind, body)]
        if kind == _COMPRESSED:
            body = memoryview(zlib.decompressobj().decompress(body, MAX_TEXT_BYTES + 1 - unpacked))
            unpacked += len(body)
            if unpacked > MAX_TEXT_BYTES:
                raise ValueError(f"it unpacks to more than {MAX_TEXT_BYTES:,} bytes")
            inner = _elements(body, order)
        for inner_kind, array in inner:
            if inner_kind != _MATRIX:
                raise ValueError(f"expected an array, got an element of type {inner_kind}")
            _check_array(array, order)


def _check_array(body: memoryview, order: str, nesting: int = 0) -> None:
    """Check that an array has the elements that SciPy reads one after the other, and no others."""
    if len(body) == 0:
        return
    if nesting > _MAX_NESTING:
        raise ValueError(f"arrays inside each other more than {_MAX_NESTING} times")
    flags = _integers(body[8:12], order)[0]
    kind, is_complex = flags & 0xFF, flags >> 11 & 1
    parts = list(itertools.islice(_elements(body[16:], order), _MAX_ENTRIES + 6))
    if kind == _OPAQUE:  # a name, two more texts and an array
        entries, parts = 1, parts[3:]
    else:
        (_, axes), _, *parts = parts
        if not 8 <= len(axes) <= 4 * _MAX_AXES:
            raise ValueError(f"expected 2 to {_MAX_AXES} axes of an array, got {len(axes) // 4:,}")
        entries = math.prod(_integers(axes, order))
    if kind <= _TEXT and not 0 <= entries <= len(body):
        raise ValueError(f"an array of {entries:,} entries in {len(body):,} bytes")
    if kind in (_STRUCTURE, _OBJECT):
        (_, length), (_, names), *parts = parts[kind == _OBJECT :]
        fields = len(names) // _integers(length, order)[0]
        if not 0 <= fields <= _MAX_FIELDS:
            raise ValueError(f"a structure of {fields:,} fields")
        count, types = entries * fields, {_MATRIX}
    elif kind in (_CELL, _FUNCTION, _OPAQUE):
        count, types = entries if kind == _CELL else 1, {_MATRIX}
    elif kind == _TEXT:
        count, types = 1, _LETTERS
    elif _SPARSE <= kind <= _UINT64:
        count, types = (3 if kind == _SPARSE else 1) + is_complex, _NUMBERS
    else:
        raise ValueError(f"an array of the unknown class {kind}")
    if count > _MAX_ENTRIES or len(parts) != count or not {each for each, _ in parts} <= types:
        got = ", ".join(str(each) for each, _ in parts[:5])
        raise ValueError(
            f"an array of class {kind}: expected {count:,} elements, got {len(parts):,} of the types {got}"
        )
    for each, inner in parts:
        if each == _MATRIX:
            _check_array(inner, order, nesting + 1)


def _integers(data: memoryview, order: str) -> tuple[int, ...]:
    return struct.unpack_from(f"{order}{len(data) // 4}i", data)


def _elements(data: memoryview, order: str, alignment: int = 8) -> Iterator[tuple[int, memoryview]]:
    """Yield the type and the content of each element."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        if kind > 0xFFFF:  # a short element has its size in the upper half, its content in the second four bytes
            yield kind & 0xFFFF, data[place + 4 : place + 4 + min(kind >> 16, 4)]
            place += 8
            continue
        place += 8
        if size > len(data) - place:
            raise ValueError(f"an element of {size:,} bytes, {len(data) - place:,} are left")
        yield kind, data[place : place + size]
        place += size + -size % alignment


def _is_structure(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "OV"


def _result(results: Any, path: str | Path) -> Any:
    """Return ``results{1}.res``."""
    while _is_structure(results) and results.dtype.names is None:  # a cell
        if results.size != 1:
            raise DataError(f"{path}: expected the result of one run, got {results.size} of them")
        results = results.flat[0]
    if not _is_structure(results) or "res" not in results.dtype.names or results.size != 1:
        raise DataError(f"{path}: expected the field 'res' in 'results', got {_described(results)}")
    if "type" in results.dtype.names:
        kind = "".join(np.ravel(results["type"].flat[0]).astype(str))
        if kind not in _RECTANGLES:
            raise DataError(f"{path}: expected results of the type {' or '.join(_RECTANGLES)}, got {kind!r}")
    return results["res"].flat[0]


def _only_matrix(content: dict[str, Any], path: str | Path) -> Any:
    boxes = {name: each for name, each in content.items() if np.ndim(each) == 2 and np.shape(each)[1] in (4, 8)}
    if len(boxes) != 1:
        found = ", ".join(f"{name}: {_described(each)}" for name, each in content.items()) or "nothing"
        raise DataError(f"{path}: expected 'results', or one matrix of 4 or 8 columns; found {found}")
    return next(iter(boxes.values()))


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        fields = f" of {', '.join(value.dtype.names)}" if value.dtype.names else ""
        return f"{'x'.join(map(str, value.shape))} {value.dtype.kind if not fields else 'structure'}{fields}"
    return type(value).__name__
