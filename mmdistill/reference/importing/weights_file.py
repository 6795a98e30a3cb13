"""The tensors of a weights file by name: a PyTorch checkpoint, NumPy's ``.npz``, or safetensors."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from mmdistill.reference.importing.pickles import OpaqueObject
from mmdistill.reference.importing.torch_file import READ_ERRORS, StoredTensor, read_torch_file
from mmdistill.reference.importing.training_record import TrainingRecord, read_record
from mmdistill.reference.models.weights import check_file, read_tensors
from mmdistill.toolkit.data_issues import DataError, join_names

STATE_DICT_KEYS = ("net", "state_dict")
"""Entries of a checkpoint that may hold its network's tensors: DiMP's name, and the common one."""

MAX_COMPRESSION = 32
"""Limit of an ``.npz`` file's arrays relative to its size. Trained weights hardly compress."""

MIN_ARRAY_LIMIT = 1 << 20
"""Bytes that arrays may always have, even in a smaller file."""

_READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_NPZ_ERRORS = (*READ_ERRORS, AttributeError, SyntaxError, tokenize.TokenError, zlib.error)


@dataclass(frozen=True)
class WeightsFile:
    """The content of a weights file.

    Attributes:
        path: the file.
        tensors: by the file's names, without the prefix of ``DataParallel``.
        ignored_classes: names of the classes and functions in a pickle; none of them was run.
        format: the format in a safetensors file's metadata, or an empty string.
        record: what a PyTorch checkpoint says about its training.
    """

    path: str
    tensors: dict[str, Tensor]
    ignored_classes: tuple[str, ...] = ()
    format: str = ""
    record: TrainingRecord = field(default_factory=TrainingRecord)


def read_weights_file(path: str | Path) -> WeightsFile:
    """Return the content of a PyTorch checkpoint (either container), an ``.npz`` or a safetensors file.

    The file's bytes decide, not its name.

    Raises:
        DataError: the file is missing, truncated, or of another kind.
    """
    check_file(path)
    with Path(path).open("rb") as stream:
        start = stream.read(9)
    # Safetensors first: the bytes of its header's length may equal another format's signature.
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") < Path(path).stat().st_size:
        tensors, metadata = read_tensors(path)
        return WeightsFile(str(path), _without_wrapper(tensors), format=metadata.get("format", ""))
    if start.startswith(b"PK") and _is_npz(path):
        return WeightsFile(str(path), _without_wrapper(read_npz(path)))
    if start.startswith((b"PK", b"\x80")):
        return _read_checkpoint(path)
    if start[8:] == b"{":
        read_tensors(path)  # raises an error with the cause
    raise DataError(f"{path}: expected a PyTorch checkpoint, an .npz or a safetensors file, got none of them")


def read_npz(path: str | Path) -> dict[str, Tensor]:
    """Return an ``.npz`` file's arrays by name.

    Stated sizes are checked before memory is allocated. ``np.load`` does not: with a file of 254 bytes whose header
    states 2**29 values, it allocates 2 GiB; it also unpacks 64 MiB from 65 kB, and ignores bytes after the values.

    Raises:
        DataError: the file is broken, has arrays of other things than numbers, or states more bytes than the limit.
    """
    try:
        content = Path(path).read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            size = sum(entry.file_size for entry in file.infolist())
            limit = MIN_ARRAY_LIMIT + MAX_COMPRESSION * len(content)
            if size > limit:
                raise ValueError(f"expected at most {limit:,} bytes in a file of {len(content):,}, got {size:,}")
            return {
                entry.filename.removesuffix(".npy"): torch.from_numpy(_read_array(_read_entry(file, entry)))
                for entry in file.infolist()
            }
    except _NPZ_ERRORS as error:
        raise DataError(f"{path}: not a readable .npz file ({error})") from error


def _read_entry(file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename!r}: expected no compression or deflate, got type {entry.compress_type}")
    with file.open(entry) as stream:
        return stream.read(entry.file_size)  # without a size, read() unpacks everything, then cuts it


def _read_array(content: bytes) -> NDArray[Any]:
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    if version not in _READ_HEADER:
        raise ValueError(f"expected an array of format version 1.0 or 2.0, got {version}")
    shape, _, dtype = _READ_HEADER[version](stream)
    if dtype.hasobject:
        raise ValueError("expected numbers, got Python objects")
    size = len(content) - stream.tell()
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"expected {size} bytes of values, got the shape {shape} of {dtype}")
    stream.seek(0)
    array: NDArray[Any] = np.load(stream, allow_pickle=False)
    return array


def _is_npz(path: str | Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except READ_ERRORS:
        return Path(path).suffix == ".npz"
    return bool(names) and all(name.endswith(".npy") for name in names)


def _read_checkpoint(path: str | Path) -> WeightsFile:
    file = read_torch_file(path)
    entries = _find_state_dict(file.content)
    if entries is None:
        keys = " or ".join(repr(name) for name in STATE_DICT_KEYS)
        got = _describe(file.content)
        raise DataError(f"{path}: expected tensors by name, at the top or under {keys}, got {got}")
    stored = {str(name): entry for name, entry in entries.items() if isinstance(entry, StoredTensor)}
    if others := entries.keys() - stored.keys():
        raise DataError(f"{path}: expected tensors only, got something else under {join_names(map(str, others))}")
    try:
        record = read_record(file.content)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    return WeightsFile(str(path), _without_wrapper(file.tensors(stored)), file.ignored_classes, record=record)


def _find_state_dict(content: object) -> dict[Any, Any] | None:
    if not isinstance(content, dict):
        return None
    for candidate in (*(content.get(name) for name in STATE_DICT_KEYS), content):
        if isinstance(candidate, dict) and any(isinstance(value, StoredTensor) for value in candidate.values()):
            return candidate
    return None


def _without_wrapper(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by their names without the prefix of ``DataParallel``."""
    wrapped = all(name.startswith("module.") for name in tensors)
    return {name.removeprefix("module."): value for name, value in tensors.items()} if wrapped else tensors


def _describe(content: object) -> str:
    if isinstance(content, OpaqueObject):
        return f"an object of {join_names([content.name])}: save its state_dict() instead"
    if isinstance(content, dict):
        return f"the entries {join_names(map(str, content))}" if content else "nothing"
    return f"a {type(content).__name__}"
