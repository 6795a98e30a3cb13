"""Settings dataclasses as JSON, for the metadata of weights files and checkpoints, and back.

dacite and msgspec would add a dependency, and the limit of the input and the one-line errors would still be ours.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, TypeVar

from mmdistill.toolkit.data_issues import one_line

T = TypeVar("T")

MAX_JSON_CHARACTERS = 1 << 16
"""Limit of the input. A network's settings have about 300 characters, a run's progress some thousands."""

MAX_VALUE_LENGTH = 120
"""Limit of a value's characters in an error."""


def to_json(settings: object) -> str:
    """Return a settings dataclass, nested ones included, as JSON."""
    return json.dumps(dataclasses.asdict(settings))  # type: ignore[call-overload]


def from_json(kind: type[T], text: str) -> T:
    """Return settings from the JSON of ``to_json``.

    Args:
        kind: the dataclass.
        text: the JSON.

    Raises:
        ValueError: the text is no JSON, too long or nested too deeply; or a name is unknown or missing, or a value has
            another type.
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
    # Not isinstance: in Python, bool is a subclass of int.
    if type(value) is not kind:
        raise ValueError(f"{where}: expected {kind.__name__}, got {_printed(value)}")


def _printed(value: object) -> str:
    """Return a value's text for an error: one line of limited length."""
    return one_line(repr(value), MAX_VALUE_LENGTH)


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
