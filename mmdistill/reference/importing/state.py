"""The tensors of a file by name, whoever wrote it: PyTorch, NumPy or safetensors.

NumPy's ``.npz`` files: a zip file of ``.npy`` files, compressed or not.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from mmdistill.reference.importing.pickles import Foreign
from mmdistill.reference.importing.torch_file import BROKEN, StoredTensor, read_torch_file
from mmdistill.reference.importing.training_record import TrainingRecord, read_record
from mmdistill.reference.models.weights import check_file, read_tensors
from mmdistill.toolkit.data_issues import DataError, join_names

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


WRAPPERS = ("net", "state_dict")
"""Under which entry of a checkpoint its network's tensors may stand: DiMP's custom, and the common one."""


@dataclass(frozen=True)
class State:
    """A network's tensors as a file has them.

    Attributes:
        path: the file.
        tensors: by the file's names.
        foreign: the classes and functions that stand around them in a pickle, by name; none of them was run.
        format: what the metadata of a safetensors file say of its format, if anything.
        record: what the file says of its training.
    """

    path: str
    tensors: dict[str, Tensor]
    foreign: tuple[str, ...] = ()
    format: str = ""
    record: TrainingRecord = field(default_factory=TrainingRecord)


def read_state(path: str | Path) -> State:
    """Return the tensors of a PyTorch checkpoint (either container), an ``.npz`` or a safetensors file.

    The content decides, not the file's name.

    Raises:
        DataError: it is missing, truncated, or nothing of these.
    """
    check_file(path)
    with Path(path).open("rb") as stream:
        start = stream.read(9)
    # First, because a header may have a length whose bytes begin as the other formats do.
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") < Path(path).stat().st_size:
        tensors, metadata = read_tensors(path)
        return State(str(path), _without_wrapper(tensors), format=metadata.get("format", ""))
    if start.startswith(b"PK") and _is_npz(path):
        return State(str(path), _without_wrapper(read_npz(path)))
    if start.startswith((b"PK", b"\x80")):
        return _read_torch(path)
    if start[8:] == b"{":
        read_tensors(path)  # says what is wrong with it
    raise DataError(f"{path}: expected a PyTorch checkpoint, an .npz or a safetensors file, got none of them")


def _is_npz(path: str | Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except BROKEN:
        return Path(path).suffix == ".npz"
    return bool(names) and all(name.endswith(".npy") for name in names)


def _read_torch(path: str | Path) -> State:
    file = read_torch_file(path)
    entries = _entries(file.content)
    if entries is None:
        wrappers = " or ".join(repr(name) for name in WRAPPERS)
        got = _described(file.content)
        raise DataError(f"{path}: expected tensors by name, at the top or under {wrappers}, got {got}")
    stored = {str(name): entry for name, entry in entries.items() if isinstance(entry, StoredTensor)}
    if others := entries.keys() - stored.keys():
        raise DataError(f"{path}: expected tensors only, got something else under {join_names(map(str, others))}")
    try:
        record = read_record(file.content)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    return State(str(path), _without_wrapper(file.tensors(stored)), file.foreign, record=record)


def _entries(content: object) -> dict[Any, Any] | None:
    if not isinstance(content, dict):
        return None
    for candidate in (*(content.get(name) for name in WRAPPERS), content):
        if isinstance(candidate, dict) and any(isinstance(value, StoredTensor) for value in candidate.values()):
            return candidate
    return None


def _without_wrapper(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by the names that they have without ``DataParallel``."""
    wrapped = all(name.startswith("module.") for name in tensors)
    return {name.removeprefix("module."): value for name, value in tensors.items()} if wrapped else tensors


def _described(content: object) -> str:
    if isinstance(content, Foreign):
        return f"an object of {join_names([content.name])}: save its state_dict() instead"
    if isinstance(content, dict):
        return f"the entries {join_names(map(str, content))}" if content else "nothing"
    return f"a {type(content).__name__}"
