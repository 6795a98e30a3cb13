"""The base of Terms before PyTorch 2.7, whose compiler builds no subclasses of dict."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(init=False, repr=False, eq=False)  # inside which DistributedDataParallel finds the tensors
class PlainMapping(Mapping[str, Any]):  # the compiler of PyTorch 2.6 makes no MutableMapping either
    """What ``Terms`` uses of ``OrderedDict``, with the values in an attribute."""

    _values: dict[str, Any]

    def __init__(self) -> None:
        self._values = {}

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[name] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __deepcopy__(self, memo: dict[int, Any]) -> PlainMapping:
        # Lightning copies a dataclass with its values in the memo, then replaces them.
        copied = copy.copy(self)
        copied._values = copy.deepcopy(self._values, memo)
        return copied
