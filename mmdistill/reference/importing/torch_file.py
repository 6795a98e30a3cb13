"""Files of ``torch.save``, in both containers, read without running anything from them.

A checkpoint is a pickle and raw storages. Since PyTorch 1.6 the container is a zip file (``NAME/data.pkl``,
``NAME/data/KEY``, uncompressed). Before, it was one stream: four pickles (a magic number, a version, the machine, the
content), the list of the storages' keys, then each storage as its length (int64) and its values.

In the pickle a tensor is a call of ``torch._utils._rebuild_tensor_v2`` on a storage, which is a persistent id. Its
description is checked before values are read.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from mmdistill.reference.importing.pickles import (
    MAX_PICKLE_BYTES,
    OpaqueObject,
    PickleReader,
    is_plain_key,
    plain_dictionary,
)
from mmdistill.reference.models.weights import check_file
from mmdistill.toolkit.data_issues import DataError, join_names

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
"""Content of the first pickle in a stream container."""

MAX_SHARING = 4
"""Limit of the tensors' bytes relative to the storages' bytes. Tied layers use a storage more than once."""

MAX_COUNT = (1 << 63) - 1

READ_ERRORS = (
    *(ValueError, TypeError, KeyError, EOFError, OSError, OverflowError, MemoryError, RuntimeError),
    *(zipfile.BadZipFile, struct.error),
)
"""Exceptions of the standard library on broken or hostile files."""

_DTYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
_STORAGES: Mapping[str, torch.dtype] = {f"torch.{name}Storage": dtype for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class Storage:
    """A storage of the file, or a part of one.

    Attributes:
        dtype: of its values.
        key: its name in the file.
        length: number of values in the whole storage.
        start: index of the part's first value.
    """

    dtype: torch.dtype
    key: str
    length: int
    start: int = 0

    @property
    def size(self) -> int:
        """Bytes of the whole storage."""
        return self.length * self.dtype.itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A tensor's description in the file; unchecked, see ``problem``."""

    storage: Any
    offset: Any
    shape: Any
    stride: Any

    @property
    def size(self) -> int:
        """Bytes of its values; defined if it has no problem."""
        return int(math.prod(self.shape) * self.storage.dtype.itemsize)

    def problem(self) -> str | None:
        """Return why the description is invalid, or None."""
        if not isinstance(self.storage, Storage):
            return "its storage is missing"
        if not (_are_counts(self.shape) and _are_counts(self.stride) and _are_counts((self.offset,))):
            return "its shape, stride or offset is invalid"
        if len(self.shape) != len(self.stride) or len(self.shape) > 8:
            return f"it has {len(self.shape)} axes and {len(self.stride)} strides"
        if 0 in self.shape or math.prod(self.shape) > self.storage.length:
            return f"it has {math.prod(self.shape)} values, its storage {self.storage.length}"
        last = sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        if self.storage.start + self.offset + last >= self.storage.length:
            return "it ends after its storage"
        return None


class TensorPickles:
    """Reads the pickles of one file.

    Attributes:
        storages: the storages named so far, by key.
    """

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        self._reader = PickleReader(_STAND_INS, self._persistent)

    @property
    def ignored_classes(self) -> tuple[str, ...]:
        """Names of the classes and functions in the pickles that are not part of tensors, sorted."""
        return tuple(sorted(self._reader.ignored_classes - _STORAGES.keys()))

    def read(self, stream: IO[bytes]) -> Any:
        """Return the object of the next pickle: plain values, containers, ``StoredTensor`` and ``OpaqueObject``.

        Raises:
            ValueError: the pickle is truncated or broken, or a storage is invalid.
        """
        return self._reader.read(stream)

    def _persistent(self, identity: object) -> object:
        match identity:
            case ("module", module, *_):  # of a whole pickled network: its class, and the class's source
                return module
            case ("storage", OpaqueObject(kind), str(key), _, int(length), *view) if (
                kind in _STORAGES and is_plain_key(key) and _are_counts((length,))
            ):
                storage = Storage(_STORAGES[kind], key, length)
                if self.storages.setdefault(key, storage) != storage:
                    raise ValueError(f"storage {key!r} has two descriptions")
                return _storage_part(storage, view)
        raise ValueError("an invalid storage")


def _storage_part(storage: Storage, view: list[Any]) -> Storage:
    """Return a part of a storage, as files from before PyTorch 0.4 may describe it."""
    match view:
        case [] | [None]:
            return storage
        case [(_, int(start), int(_))] if start >= 0:
            return Storage(storage.dtype, storage.key, storage.length, start)
    raise ValueError("an invalid part of a storage")


def _are_counts(numbers: object) -> bool:
    return isinstance(numbers, tuple) and all(type(number) is int and 0 <= number <= MAX_COUNT for number in numbers)


def _tensor(storage: object, offset: object, shape: object, stride: object, *_: object) -> StoredTensor:
    return StoredTensor(storage, offset, shape, stride)


def _first(first: object, *_: object) -> object:
    return first


def _mapping(pairs: object = ()) -> dict[object, object]:
    if not isinstance(pairs, list | tuple):
        raise TypeError("an ordered dictionary without pairs")
    return plain_dictionary(pairs)


_STAND_INS: Mapping[str, Callable[..., object]] = {
    "collections.OrderedDict": _mapping,
    "torch.Size": _first,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
}


@dataclass(frozen=True)
class TorchFile:
    """The content of a file of ``torch.save``.

    Attributes:
        path: the file.
        content: the saved object. Each tensor is a ``StoredTensor``; anything that is neither plain nor a container is
            an ``OpaqueObject``.
        ignored_classes: names of the classes and functions that are not part of tensors, sorted.
        read_storage: returns a storage's bytes.
    """

    path: str
    content: Any
    ignored_classes: tuple[str, ...]
    read_storage: Callable[[Storage], bytes]

    def tensors(self, stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
        """Return tensors of the content: contiguous, none sharing memory.

        Raises:
            DataError: a tensor is invalid, its values can't be read, or all tensors exceed ``MAX_SHARING``.
        """
        flat: dict[str, Tensor] = {}
        for name, tensor in stored.items():
            if problem := tensor.problem():
                raise DataError(f"{self.path}: {join_names([name])}: an invalid tensor, {problem}")
            if tensor.storage.key not in flat:
                flat[tensor.storage.key] = self._values(tensor.storage, name)
        storage_bytes = sum(values.nbytes for values in flat.values())
        tensor_bytes = sum(tensor.size for tensor in stored.values())
        if tensor_bytes > MAX_SHARING * storage_bytes:
            limit = MAX_SHARING * storage_bytes
            raise DataError(f"{self.path}: expected at most {limit:,} bytes of tensors, got {tensor_bytes:,}")
        return {name: _copy(flat[tensor.storage.key], tensor) for name, tensor in stored.items()}

    def _values(self, storage: Storage, name: str) -> Tensor:
        try:
            return torch.frombuffer(bytearray(self.read_storage(storage)), dtype=storage.dtype)
        except READ_ERRORS as error:
            raise DataError(f"{self.path}: {join_names([name])}: its values can't be read ({error})") from error


def _copy(values: Tensor, tensor: StoredTensor) -> Tensor:
    view = values.as_strided(tensor.shape, tensor.stride, tensor.storage.start + tensor.offset)
    return view.clone(memory_format=torch.contiguous_format)


def read_torch_file(path: str | Path) -> TorchFile:
    """Return the content of a file of ``torch.save``.

    Raises:
        DataError: the file is missing, truncated or broken, or of another kind.
    """
    check_file(path)
    try:
        content = Path(path).read_bytes()
        read = _read_zip if content.startswith(b"PK") else _read_stream
        return read(str(path), content)
    except READ_ERRORS as error:
        raise DataError(f"{path}: not a complete PyTorch checkpoint ({error})") from error


def _read_zip(path: str, content: bytes) -> TorchFile:
    file = zipfile.ZipFile(io.BytesIO(content))
    entries = file.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its entries are compressed")
    if sum(entry.file_size for entry in entries) > len(content):
        raise ValueError("its entries are larger than the file")
    names = {entry.filename for entry in entries}
    pickled = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise ValueError(f"expected one data.pkl in it, got {len(pickled)}")
    if (size := file.getinfo(pickled[0]).file_size) > MAX_PICKLE_BYTES:
        raise ValueError(f"its data.pkl has {size:,} bytes, the limit is {MAX_PICKLE_BYTES:,}")
    folder = pickled[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in names and file.read(f"{folder}byteorder") != b"little":
        raise ValueError("its values are not little-endian")

    def read_storage(storage: Storage) -> bytes:
        name = f"{folder}data/{storage.key}"
        if name not in names or file.getinfo(name).file_size != storage.size:
            raise ValueError(f"expected {storage.size} bytes in {name!r}")
        return file.read(name)

    pickles = TensorPickles()
    saved = pickles.read(io.BytesIO(file.read(pickled[0])))
    return TorchFile(path, saved, pickles.ignored_classes, read_storage)


def _read_stream(path: str, content: bytes) -> TorchFile:
    stream = io.BytesIO(content)
    pickles = TensorPickles()
    if pickles.read(stream) != MAGIC_NUMBER:
        raise ValueError("its first pickle is not the magic number")
    _version, machine = pickles.read(stream), pickles.read(stream)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("its values are not little-endian")
    saved = pickles.read(stream)
    positions: dict[str, int] = {}
    for key in pickles.read(stream):
        if not isinstance(key, str):  # hashing other objects may never end
            raise ValueError(f"expected a text as a storage's key, got {type(key).__name__}")
        storage = pickles.storages[key]
        if int.from_bytes(stream.read(8), "little") != storage.length:
            raise ValueError(f"expected {storage.length} values in storage {key!r}")
        positions[key] = stream.tell()
        if positions[key] + storage.size > len(content):
            raise ValueError(f"storage {key!r} is truncated")
        stream.seek(storage.size, io.SEEK_CUR)

    def read_storage(storage: Storage) -> bytes:
        position = positions[storage.key]
        return content[position : position + storage.size]

    return TorchFile(path, saved, pickles.ignored_classes, read_storage)
