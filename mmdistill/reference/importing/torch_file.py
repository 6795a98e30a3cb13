"""Files of ``torch.save``, both containers, read without running anything from them.

A checkpoint is a pickle beside raw storages. Since PyTorch 1.6 it is a zip file (``NAME/data.pkl``, ``NAME/data/KEY``,
nothing compressed); before, one stream: four pickles (a magic number, a version, the machine, the content), the list of
the storages' keys, then each storage as its length (int64) and its values.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdistill.reference.errors import DataError, some
from mmdistill.reference.importing.pickles import MAX_PICKLE_BYTES
from mmdistill.reference.importing.stored_tensors import Storage, StoredTensor, TensorPickles
from mmdistill.reference.networks.weights import check_file

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
                raise DataError(f"{self.path}: {some([name])}: not a tensor, {problem}")
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
            raise DataError(f"{self.path}: {some([name])}: its values can't be read ({error})") from error


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
