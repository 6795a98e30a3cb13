"""MATLAB result files: a matrix of boxes, or the ``results`` of OTB's and LSOTB-TIR's toolkits.

SciPy reads them, but does not check sizes and types. Measured with SciPy 1.17: a file of 184 bytes with a cell array of
2**28 entries takes 2 GiB of memory and 5 s. A file of 3 MB with 60,000 nested cells crashes the process, and so does
one changed byte in an element's type. So the layout is checked before SciPy reads a file.
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

_BOX_TYPES = ("rect", "4corner")
"""Accepted values of ``results{1}.type``: ``x y w h``, or corners."""

_HDF5 = b"MATLAB 7.3"

_MAX_NESTING = 20
"""Depth of nested cells and structures; OTB's files have three."""

_MAX_AXES = 32
"""SciPy's limit."""

_MAX_FIELDS = 1000
"""Fields of a structure."""

_MAX_ENTRIES = 100_000
"""Arrays in a cell or structure."""

_HEADER_BYTES = 128

# Types of elements.
_MATRIX, _COMPRESSED = 14, 15
_NUMBER_TYPES = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13}
_TEXT_TYPES = {*_NUMBER_TYPES, 16, 17, 18}

# Classes of arrays. Those from _SPARSE to _UINT64 hold numbers.
_CELL, _STRUCTURE, _OBJECT, _TEXT, _SPARSE = range(1, 6)
_UINT64, _FUNCTION, _OPAQUE = range(15, 18)


def read_mat_rows(path: str | Path) -> Array:
    """Read the boxes of a MATLAB file, ``(T, 4)`` as ``x y w h`` or ``(T, 8)`` as corners, pixels.

    The boxes are the field ``res`` of the structure ``results`` (or of the structure in the cell ``results``), or the
    only matrix of 4 or 8 columns.

    Raises:
        DataError: SciPy is not installed, the file is not a MATLAB file of version 4 to 7, or it holds no boxes.
    """
    content = _load(path)
    if _is_structure(content.get("results")):
        matrix = _boxes_of_results(content["results"], path)
    else:
        matrix = _only_matrix(content, path)
    rows = np.asarray(matrix)
    if rows.dtype.kind not in "fiu" or rows.ndim != 2 or rows.shape[1] not in (4, 8) or len(rows) == 0:
        raise DataError(f"{path}: expected boxes of 4 or 8 columns, got {_describe(matrix)}")
    return rows.astype(np.float64)


def _load(path: str | Path) -> dict[str, Any]:
    try:
        # Slow to import, and optional.
        scipy_io = importlib.import_module("scipy.io")
    except ModuleNotFoundError as error:
        raise DataError(
            f"{path}: reading MATLAB files needs SciPy; pip install 'mmdistill[mat]', or save the boxes as text"
        ) from error
    with open_regular_file(path) as file:
        if file.seek(0, 2) > MAX_TEXT_BYTES:
            raise DataError(f"{path}: expected at most {MAX_TEXT_BYTES:,} bytes, got a larger file")
        file.seek(0)
        if file.read(len(_HDF5)) == _HDF5:
            raise DataError(f"{path}: expected a MATLAB file of version 4 to 7, got 7.3; in MATLAB, save with -v7")
        file.seek(0)
        try:
            _check_layout(file.read())
            file.seek(0)
            content: dict[str, Any] = scipy_io.loadmat(file, squeeze_me=False)
        except Exception as error:  # damaged files cause errors of many types, zlib's and NumPy's included
            raise DataError(f"{path}: expected a MATLAB file of version 4 to 7; it can't be read ({error})") from error
    return {name: value for name, value in content.items() if not name.startswith("__")}


def _check_layout(content: bytes) -> None:
    """Check the sizes, types and nesting of a file of version 5 to 7.

    Raises:
        ValueError: an element is larger than the file or has a wrong type, arrays are nested too deep, ...
    """
    if 0 in content[:4]:  # version 4, whose sizes SciPy checks
        return
    order = "<" if content[126:128] == b"IM" else ">"
    unpacked = 0
    for kind, body in _elements(memoryview(content)[_HEADER_BYTES:], order, alignment=1):
        inner: Iterable[tuple[int, memoryview]] = [(kind, body)]
        if kind == _COMPRESSED:
            body = memoryview(zlib.decompressobj().decompress(body, MAX_TEXT_BYTES + 1 - unpacked))
            unpacked += len(body)
            if unpacked > MAX_TEXT_BYTES:
                raise ValueError(f"unpacks to more than {MAX_TEXT_BYTES:,} bytes")
            inner = _elements(body, order)
        for inner_kind, array in inner:
            if inner_kind != _MATRIX:
                raise ValueError(f"expected an array, got an element of type {inner_kind}")
            _check_array(array, order)


def _check_array(body: memoryview, order: str, nesting: int = 0) -> None:
    """Check that an array has exactly the elements that SciPy reads."""
    if len(body) == 0:
        return
    if nesting > _MAX_NESTING:
        raise ValueError(f"arrays nested more than {_MAX_NESTING} times")
    flags = _integers(body[8:12], order)[0]
    kind, is_complex = flags & 0xFF, flags >> 11 & 1
    parts = list(itertools.islice(_elements(body[16:], order), _MAX_ENTRIES + 6))
    if kind == _OPAQUE:  # three texts and an array
        entries, parts = 1, parts[3:]
    else:
        (_, axes), _, *parts = parts
        if not 8 <= len(axes) <= 4 * _MAX_AXES:
            raise ValueError(f"expected an array of 2 to {_MAX_AXES} axes, got {len(axes) // 4:,}")
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
        count, types = 1, _TEXT_TYPES
    elif _SPARSE <= kind <= _UINT64:
        count, types = (3 if kind == _SPARSE else 1) + is_complex, _NUMBER_TYPES
    else:
        raise ValueError(f"an array of the unknown class {kind}")
    if count > _MAX_ENTRIES or len(parts) != count or not {each for each, _ in parts} <= types:
        got = ", ".join(str(each) for each, _ in parts[:5])
        raise ValueError(f"an array of class {kind}: expected {count:,} elements, got {len(parts):,} of types {got}")
    for each, inner in parts:
        if each == _MATRIX:
            _check_array(inner, order, nesting + 1)


def _integers(data: memoryview, order: str) -> tuple[int, ...]:
    return struct.unpack_from(f"{order}{len(data) // 4}i", data)


def _elements(data: memoryview, order: str, alignment: int = 8) -> Iterator[tuple[int, memoryview]]:
    """Yield each element's type and content."""
    position = 0
    while position + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, position)
        if kind > 0xFFFF:  # a short element: its size in the upper half, its content in the next four bytes
            yield kind & 0xFFFF, data[position + 4 : position + 4 + min(kind >> 16, 4)]
            position += 8
            continue
        position += 8
        if size > len(data) - position:
            raise ValueError(f"an element of {size:,} bytes, {len(data) - position:,} remain")
        yield kind, data[position : position + size]
        position += size + -size % alignment


def _is_structure(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "OV"


def _boxes_of_results(results: Any, path: str | Path) -> Any:
    """Return ``results{1}.res``."""
    while _is_structure(results) and results.dtype.names is None:  # a cell
        if results.size != 1:
            raise DataError(f"{path}: expected the result of one run, got {results.size}")
        results = results.flat[0]
    if not _is_structure(results) or "res" not in results.dtype.names or results.size != 1:
        raise DataError(f"{path}: expected the field 'res' in 'results', got {_describe(results)}")
    if "type" in results.dtype.names:
        kind = "".join(np.ravel(results["type"].flat[0]).astype(str))
        if kind not in _BOX_TYPES:
            raise DataError(f"{path}: expected results of type {' or '.join(_BOX_TYPES)}, got {kind!r}")
    return results["res"].flat[0]


def _only_matrix(content: dict[str, Any], path: str | Path) -> Any:
    matrices = [each for each in content.values() if np.ndim(each) == 2 and np.shape(each)[1] in (4, 8)]
    if len(matrices) != 1:
        variables = ", ".join(f"{name}: {_describe(each)}" for name, each in content.items()) or "nothing"
        raise DataError(f"{path}: expected 'results', or one matrix of 4 or 8 columns; found {variables}")
    return matrices[0]


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        fields = f" of {', '.join(value.dtype.names)}" if value.dtype.names else ""
        return f"{'x'.join(map(str, value.shape))} {value.dtype.kind if not fields else 'structure'}{fields}"
    return type(value).__name__
