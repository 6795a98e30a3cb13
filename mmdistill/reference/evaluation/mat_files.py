"""Result files of MATLAB: a matrix of boxes, or the ``results`` of OTB's and LSOTB-TIR's toolkits."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from mmdistill.reference.data.boxes import Array
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import MAX_TEXT_BYTES, open_regular

_RECTANGLES = ("rect", "4corner")
"""What ``results{1}.type`` may be: ``x y w h``, or corners."""

_HDF5 = b"MATLAB 7.3"


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
    with open_regular(path) as file:
        if file.seek(0, 2) > MAX_TEXT_BYTES:
            raise DataError(f"{path}: expected at most {MAX_TEXT_BYTES:,} bytes, the file is larger")
        file.seek(0)
        if file.read(len(_HDF5)) == _HDF5:
            raise DataError(f"{path}: MATLAB 7.3 files are not read; in MATLAB, save them with the option -v7")
        file.seek(0)
        try:
            content: dict[str, Any] = scipy_io.loadmat(file, squeeze_me=False)
        except Exception as error:  # a damaged file ends in errors of many kinds, zlib's and NumPy's among them
            raise DataError(f"{path}: expected a MATLAB file of version 4 to 7, it can't be read ({error})") from error
    return {name: value for name, value in content.items() if not name.startswith("__")}


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
