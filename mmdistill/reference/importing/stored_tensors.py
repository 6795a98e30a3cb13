"""Tensors as the pickle of a PyTorch checkpoint describes them, checked before anybody believes it.

In the pickle a tensor is a call of ``torch._utils._rebuild_tensor_v2`` on a storage, which is a persistent id.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import torch

from mmdistill.reference.importing.pickles import Foreign, PickleReader, is_plain_key, plain_dictionary

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
