"""Settings as plain JSON values and back: what checkpoints carry."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, TypeVar

from mmdistill.toolkit.data_issues import one_line

T = TypeVar("T")

MAX_JSON_CHARACTERS = 1 << 16
"""A network's settings have some 300, a run's progress some thousands."""

MAX_PRINTED = 120
"""Characters of a value in an error."""


def to_json(settings: object) -> str:
    """Return a (nested) settings dataclass as JSON."""
    return json.dumps(dataclasses.asdict(settings))  # type: ignore[call-overload]


def from_json(kind: type[T], text: str) -> T:
    """Return settings of a kind from what ``to_json`` wrote.

    Raises:
        ValueError: not JSON, too long or nested too deeply, a name that the kind has not, or a value of another type.
    """
    if len(text) > MAX_JSON_CHARACTERS:
        raise ValueError(f"expected at most {MAX_JSON_CHARACTERS:,} characters of JSON, got {len(text):,}")
    try:
        value: T = _restore(kind, json.loads(text), kind.__name__)
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    return value


def _restore(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _restore_dataclass(kind, value, where)
    if origin in (tuple, list):
        _check_type(list, value, where)
        inner, *rest = arguments
        kinds = [inner] * len(value) if origin is list or rest == [...] else [inner, *rest]
        if len(kinds) != len(value):
            raise ValueError(f"{where}: expected {len(kinds)} values, got {len(value)}")
        return origin(_restore(k, v, f"{where}.{index}") for index, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is dict:
        _check_type(dict, value, where)
        return {name: _restore(arguments[1], item, f"{where}.{_printed(name)}") for name, item in value.items()}
    if origin is typing.Literal:
        if not any(type(value) is type(choice) and value == choice for choice in arguments):
            raise ValueError(f"{where}: expected one of {arguments}, got {_printed(value)}")
        return value
    if origin in (typing.Union, types.UnionType):
        return _restore_union(arguments, value, where)
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type):
        _check_type(kind, value, where)
    return value


def _restore_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    for kind in kinds:
        try:
            return _restore(kind, value, where)
        except ValueError:
            pass
    names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
    raise ValueError(f"{where}: expected {names}, got {_printed(value)}")


def _check_type(kind: type[Any], value: Any, where: str) -> None:
    # JSON has exactly these types; bool is a kind of int in Python.
    if type(value) is not kind:
        raise ValueError(f"{where}: expected {kind.__name__}, got {_printed(value)}")


def _printed(value: object) -> str:
    """Return a value from a file as an error may print it."""
    return one_line(repr(value), MAX_PRINTED)


def _restore_dataclass(kind: type[Any], value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, got {_printed(value)}")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise ValueError(f"{where}: unknown settings {', '.join(_printed(name) for name in unknown[:3])}")
    missing = [
        field.name
        for field in dataclasses.fields(kind)
        if field.name not in value
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{where}: missing {', '.join(missing)}")
    return kind(**{name: _restore(hints[name], item, f"{where}.{name}") for name, item in value.items()})
