"""Settings as plain JSON values and back: what checkpoints carry."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(settings: object) -> str:
    """Return a (nested) settings dataclass as JSON."""
    return json.dumps(dataclasses.asdict(settings))  # type: ignore[call-overload]


def from_json(kind: type[T], text: str) -> T:
    """Return settings of a kind from what ``to_json`` wrote.

    Raises:
        ValueError: not JSON, a name that the kind has not, or a value of another type.
    """
    value: T = _restore(kind, json.loads(text), kind.__name__)
    return value


def _restore(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _restore_dataclass(kind, value, where)
    if origin is tuple:
        inner, *rest = typing.get_args(kind)
        kinds = [inner] * len(value) if rest == [...] else [inner, *rest]
        return tuple(_restore(k, v, where) for k, v in zip(kinds, value, strict=True))
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise ValueError(f"{where}: expected one of {typing.get_args(kind)}, got {value!r}")
        return value
    if origin in (typing.Union, types.UnionType):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and not isinstance(value, kind):
        raise ValueError(f"{where}: expected {kind.__name__}, got {value!r}")
    return value


def _restore_dataclass(kind: type[Any], value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, got {value!r}")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise ValueError(f"{where}: unknown settings {', '.join(unknown)}")
    return kind(**{name: _restore(hints[name], item, f"{where}.{name}") for name, item in value.items()})
