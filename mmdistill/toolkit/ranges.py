"""The values that settings and options may have, stated beside them and checked once.

A settings dataclass states its ranges in its annotations and checks itself as it is made::

    @dataclass(frozen=True)
    class Settings:
        steps: Annotated[int, Range(1, 10**9)] = 100

        def __post_init__(self) -> None:
            check_fields(self)

The command line checks all options of a command by their annotations (``check_options``); errors then name the option.
"""

from __future__ import annotations

import dataclasses
import functools
import numbers
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from mmdistill.toolkit.data_issues import DataError

MAX_QUOTED = 60
"""Characters of a refused value that a message shows."""


class RangeError(DataError):
    """A setting or an option has a value that it can't have; the command line exits with status 2.

    Attributes:
        name: the setting or the option.
        expected: what it may be.
        got: what it is.
    """

    def __init__(self, name: str, expected: str, got: object) -> None:
        self.name, self.expected, self.got = name, expected, got
        super().__init__(f"{name}: expected {expected}, got {_quoted(got)}")


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``, both included; NaN and infinity are in no range.

    Attributes:
        low: the smallest value.
        high: the largest value.
        above: whether ``low`` itself is left out.
        step: whole numbers are multiples of this.
    """

    low: float
    high: float
    above: bool = False
    step: int = 1

    def __contains__(self, value: float) -> bool:
        inside = self.low < value <= self.high if self.above else self.low <= value <= self.high
        return inside and (self.step == 1 or value % self.step == 0)

    def describe(self, kind: type) -> str:
        """Return the range in words, for values of type ``int`` or ``float``."""
        number = "a number" if kind is float else "a whole number" if self.step == 1 else f"a multiple of {self.step}"
        limits = f"above {self.low:,}, at most" if self.above else f"from {self.low:,} to"
        return f"{number} {limits} {self.high:,}"


NON_EMPTY = "non-empty"
"""Marks a tuple of any length but 0."""

LOW_TO_HIGH = "low to high"
"""Marks a pair of numbers of which the second is not below the first."""

Probability = Annotated[float, Range(0, 1)]
PositiveInt = Annotated[int, Range(1, 10**9)]
NonNegativeInt = Annotated[int, Range(0, 10**9)]
Count = Annotated[int, Range(1, 10**6)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
Weight = Annotated[float, Range(0, 10**9)]
"""Of a term of a loss."""

_unchecked: ContextVar[bool] = ContextVar("_unchecked", default=False)


def check_fields(settings: object) -> None:
    """Check the fields of a settings dataclass by their annotations; called in ``__post_init__``.

    Raises:
        RangeError: a field is of another type, or out of its range.
    """
    if _unchecked.get():
        return
    _check_dataclass(type(settings), settings, type(settings).__name__, lambda where, name: f"{where}.{name}")


@contextmanager
def unchecked() -> Iterator[None]:
    """Let settings be made without a check; who makes them checks them later, by the names of their options."""
    token = _unchecked.set(True)
    try:
        yield
    finally:
        _unchecked.reset(token)


def check_options(command: Callable[..., object], values: Mapping[str, object]) -> None:
    """Check a command's options by the annotations of its parameters.

    Args:
        command: the function.
        values: its arguments by parameter.

    Raises:
        RangeError: an option is out of its range; it is named as on the command line.
    """
    hints = _hints(command)
    for parameter, value in values.items():
        _check(
            hints[parameter],
            value,
            f"--{parameter.replace('_', '-')}",
            lambda where, name: f"{where}.{name.replace('_', '-')}",
        )


@functools.cache
def _hints(owner: Any) -> dict[str, Any]:
    return typing.get_type_hints(owner, include_extras=True)


_Join = Callable[[str, str], str]


def _check_dataclass(kind: type[Any], value: object, where: str, join: _Join) -> None:
    if not isinstance(value, kind):
        raise RangeError(where, f"a {kind.__name__}", value)
    hints = _hints(kind)  # type: ignore[arg-type]
    for field in dataclasses.fields(kind):
        _check(hints[field.name], getattr(value, field.name), join(where, field.name), join)


def _check(kind: Any, value: Any, where: str, join: _Join) -> None:
    """Check a value by its annotation; kinds that are not known here hold any value."""
    metadata: list[Any] = []
    if typing.get_origin(kind) is Annotated:
        kind, *metadata = typing.get_args(kind)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        _check_union(inner, value, where, join)
    elif origin is typing.Literal:
        if not any(type(value) is type(each) and value == each for each in inner):
            raise RangeError(where, f"one of {', '.join(map(repr, inner))}", value)
    elif origin is tuple:
        _check_tuple(inner, value, where, join)
        if NON_EMPTY in metadata and not value:
            raise RangeError(where, "at least one value", value)
        if LOW_TO_HIGH in metadata and value[0] > value[1]:
            raise RangeError(where, "a range from low to high", value)
    elif dataclasses.is_dataclass(kind) and isinstance(kind, type):
        _check_dataclass(kind, value, where, join)
    elif kind in (int, float):
        _check_number(kind, [each for each in metadata if isinstance(each, Range)], value, where)
    elif kind is bool:
        if not isinstance(value, bool):
            raise RangeError(where, "True or False", value)
    elif kind in (str, Path) and (not isinstance(value, (str, Path)) or "\0" in str(value)):
        expected = "a path or a name" if kind is Path else "text"
        raise RangeError(where, f"{expected} without null bytes", str(value) if isinstance(value, Path) else value)


def _check_number(kind: type, ranges: list[Range], value: Any, where: str) -> None:
    wanted = numbers.Integral if kind is int else numbers.Real
    if isinstance(value, bool) or not isinstance(value, wanted):
        first = ranges[0].describe(kind) if ranges else f"a number of type {kind.__name__}"
        raise RangeError(where, first, value)
    number: Any = value
    for each in ranges:
        if number not in each:
            raise RangeError(where, each.describe(kind), value)


def _check_tuple(kinds: tuple[Any, ...], value: Any, where: str, join: _Join) -> None:
    if not isinstance(value, (tuple, list)):
        raise RangeError(where, "several values", value)
    if kinds[-1:] == (...,):
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise RangeError(where, f"{len(kinds)} values", value)
    for each, item in zip(kinds, value, strict=True):
        _check(each, item, where, join)


def _check_union(kinds: tuple[Any, ...], value: Any, where: str, join: _Join) -> None:
    if value is None and type(None) in kinds:
        return None
    failures = []
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return _check(kind, value, where, join)
        except RangeError as error:
            failures.append(error)
    *_, last = failures
    raise last


def _quoted(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = f"{type(value).__name__} of thousands of digits"
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."
