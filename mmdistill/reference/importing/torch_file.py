"""Files of ``torch.save``, both containers, read without running anything from them.

A checkpoint is a pickle beside raw storages. Since PyTorch 1.6 it is a zip file (``NAME/data.pkl``, ``NAME/data/KEY``,
nothing compressed); before, one stream: four pickles (a magic number, a version, the machine, the content), the list of
the storages' keys, then each storage as its length (int64) and its values.

Tensors as the pickle of a PyTorch checkpoint describes them, checked before anybody believes it.

In the pickle a tensor is a call of ``torch._utils._rebuild_tensor_v2`` on a storage, which is a persistent id.
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
    Foreign,
    PickleReader,
    is_plain_key,
    plain_dictionary,
)
from mmdistill.reference.models.weights import check_file
from mmdistill.toolkit.data_issues import DataError, join_names

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
_TOO_MANY = 1 << 63


@dataclass(frozen=True)
class Storage:
    """Where a tensor's values are: which of the file's storages, and which part of it.

    Attributes:
        dtype: of its values.
        key: names it in the file.
        length: values in the whole of it.
        start: the first value of the part.
    """

    dtype: torch.dtype
    key: str
    length: int
    start: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return self.length * self.dtype.itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the file describes it; anything until it is checked."""

    storage: Any
    offset: Any
    shape: Any
    stride: Any

    @property
    def size(self) -> int:
        """Bytes of its values, if it has no problem."""
        return int(math.prod(self.shape) * self.storage.dtype.itemsize)

    def problem(self) -> str | None:
        """Return why there is no such tensor, or None."""
        if not isinstance(self.storage, Storage):
            return "it has no storage"
        if not (_counts(self.shape) and _counts(self.stride) and _counts((self.offset,))):
            return "its shape is no shape"
        if len(self.shape) != len(self.stride) or len(self.shape) > 8:
            return f"it has {len(self.shape)} axes and {len(self.stride)} strides"
        if 0 in self.shape or math.prod(self.shape) > self.storage.length:
            return f"it has {math.prod(self.shape)} values and its storage {self.storage.length}"
        last = sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        if self.storage.start + self.offset + last >= self.storage.length:
            return "it reaches past its storage"
        return None


class TensorPickles:
    """The pickles of one file, and the storages that they name.

    Attributes:
        storages: those met so far, by key.
    """

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        self._reader = PickleReader(_STAND_INS, self._persistent)

    @property
    def foreign(self) -> tuple[str, ...]:
        """The names of the classes and functions that stand around the tensors, sorted."""
        return tuple(sorted(self._reader.foreign - _STORAGES.keys()))

    def read(self, stream: IO[bytes]) -> Any:
        """Return the object of the next pickle: plain values, containers, ``StoredTensor`` and ``Foreign``.

        Raises:
            ValueError: it isn't a whole pickle, or names storages that can't be.
        """
        return self._reader.read(stream)

    def _persistent(self, identity: object) -> object:
        match identity:
            case ("module", module, *_):  # a network that was pickled whole: its class, and the class's source
                return module
            case ("storage", Foreign(kind), str(key), _, int(length), *view) if (
                kind in _STORAGES and is_plain_key(key) and _counts((length,))
            ):
                storage = Storage(_STORAGES[kind], key, length)
                if self.storages.setdefault(key, storage) != storage:
                    raise ValueError(f"storage {key!r} is said to be two things")
                return _viewed(storage, view)
        raise ValueError("a storage that is none")


def _viewed(storage: Storage, view: list[Any]) -> Storage:
    """Return the part of a storage that files of before PyTorch 0.4 may name."""
    match view:
        case [] | [None]:
            return storage
        case [(_, int(start), int(_))] if start >= 0:
            return Storage(storage.dtype, storage.key, storage.length, start)
    raise ValueError("a part of a storage that is none")


def _counts(numbers: object) -> bool:
    return isinstance(numbers, tuple) and all(type(number) is int and 0 <= number < _TOO_MANY for number in numbers)


def _tensor(storage: object, offset: object, shape: object, stride: object, *_: object) -> StoredTensor:
    return StoredTensor(storage, offset, shape, stride)


def _first(first: object, *_: object) -> object:
    return first


def _mapping(pairs: object = ()) -> dict[object, object]:
    if not isinstance(pairs, list | tuple):
        raise TypeError("an ordered dictionary of no pairs")
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


MAGIC = 0x1950A86A20F9469CFC6C

MOST_SHARED = 4
"""How many times a file's values may be in its tensors; in those of tied layers they are more than once."""

BROKEN = (
    *(ValueError, TypeError, KeyError, EOFError, OSError, OverflowError, MemoryError, RuntimeError),
    *(zipfile.BadZipFile, struct.error),
)
"""What the standard library raises on files that are broken, or made to break it."""


@dataclass(frozen=True)
class TorchFile:
    """What is in a file of ``torch.save``.

    Attributes:
        path: the file.
        content: what was saved, with a ``StoredTensor`` for each tensor and a ``Foreign`` for all that is neither plain
            nor a container.
        foreign: the names of the classes and functions that stand around the tensors, sorted.
        read_storage: returns a storage's bytes.
    """

    path: str
    content: Any
    foreign: tuple[str, ...]
    read_storage: Callable[[Storage], bytes]

    def tensors(self, stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
        """Return tensors of the content, contiguous, each with values of its own: in the file they may share them.

        Raises:
            DataError: one isn't what a tensor can be, its values can't be read, or all have far more than the file.
        """
        flat: dict[str, Tensor] = {}
        for name, tensor in stored.items():
            if problem := tensor.problem():
                raise DataError(f"{self.path}: {join_names([name])}: not a tensor, {problem}")
            if tensor.storage.key not in flat:
                flat[tensor.storage.key] = self._values(tensor.storage, name)
        held, asked = sum(values.nbytes for values in flat.values()), sum(tensor.size for tensor in stored.values())
        if asked > MOST_SHARED * held:
            raise DataError(f"{self.path}: its tensors share values too often: they have {asked:,} bytes of {held:,}")
        return {name: _copied(flat[tensor.storage.key], tensor) for name, tensor in stored.items()}

    def _values(self, storage: Storage, name: str) -> Tensor:
        try:
            return torch.frombuffer(bytearray(self.read_storage(storage)), dtype=storage.dtype)
        except BROKEN as error:
            raise DataError(f"{self.path}: {join_names([name])}: its values can't be read ({error})") from error


def _copied(values: Tensor, tensor: StoredTensor) -> Tensor:
    view = values.as_strided(tensor.shape, tensor.stride, tensor.storage.start + tensor.offset)
    return view.clone(memory_format=torch.contiguous_format)


def read_torch_file(path: str | Path) -> TorchFile:
    """Return what is in a file of ``torch.save``.

    Raises:
        DataError: it is missing, truncated or broken, or isn't such a file.
    """
    check_file(path)
    try:
        content = Path(path).read_bytes()
        read = _read_zip if content.startswith(b"PK") else _read_stream
        return read(str(path), content)
    except BROKEN as error:
        raise DataError(f"{path}: not a whole PyTorch checkpoint, truncated perhaps ({error})") from error


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
    return TorchFile(path, saved, pickles.foreign, read_storage)


def _read_stream(path: str, content: bytes) -> TorchFile:
    stream = io.BytesIO(content)
    pickles = TensorPickles()
    if pickles.read(stream) != MAGIC:
        raise ValueError("it does not begin as one")
    _version, machine = pickles.read(stream), pickles.read(stream)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("its values are not little-endian")
    saved = pickles.read(stream)
    places: dict[str, int] = {}
    for key in pickles.read(stream):
        if not isinstance(key, str):  # its hash could take forever
            raise ValueError("a storage's key that is no text")
        storage = pickles.storages[key]
        if int.from_bytes(stream.read(8), "little") != storage.length:
            raise ValueError(f"expected {storage.length} values in storage {key!r}")
        places[key] = stream.tell()
        if places[key] + storage.size > len(content):
            raise ValueError(f"storage {key!r} is cut off")
        stream.seek(storage.size, io.SEEK_CUR)

    def read_storage(storage: Storage) -> bytes:
        place = places[storage.key]
        return content[place : place + storage.size]

    return TorchFile(path, saved, pickles.foreign, read_storage)
