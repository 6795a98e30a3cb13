"""Checks of constructor arguments: each returns the argument, or raises an error that names class and argument."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Sequence
from numbers import Real
from typing import TypeGuard, TypeVar

from torch import Tensor, nn

from mmdistill.errors import ShapeError

MAX_CHANNELS = 2**16
"""No network has more channels; beyond it a single convolution would ask for terabytes."""

MAX_WEIGHT = 1e12
"""Largest weight of a term. Times a loss of 1e26 it is still a float32 number."""

MAX_NUMBER = 1e6
"""Largest absolute value of thresholds, exponents and similar numbers."""

MAX_COUNT = 2**20
"""Largest number of boxes, of tokens per side, and the like."""

T = TypeVar("T")


def argument_error(where: str, name: str, expected: str, value: object) -> ValueError:
    """Return the error for a wrong argument.

    Args:
        where: the class or function.
        name: the argument.
        expected: what it must be.
        value: what it is.
    """
    return ValueError(f"{where}: {name}: expected {expected}, got {short_repr(value)}")


def short_repr(value: object) -> str:
    """Return a value as one line of at most 100 characters."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:97]}..."


def check_int(where: str, name: str, value: object, *, low: int = 1, high: int = MAX_COUNT) -> int:
    """Return an integer from ``low`` to ``high``; NumPy's integers become Python's."""
    expected = f"a whole number from {low} to {high}"
    if isinstance(value, bool):
        raise argument_error(where, name, expected, value)
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise argument_error(where, name, expected, value) from None
    if not low <= number <= high:
        raise argument_error(where, name, expected, value)
    return number


def check_number(where: str, name: str, value: object, *, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> float:
    """Return a finite number from ``low`` to ``high``."""
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if low <= number <= high:
            return number
    raise argument_error(where, name, f"a number from {low:g} to {high:g}", value)


def check_bool(where: str, name: str, value: object) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise argument_error(where, name, "True or False", value)
    return value


def check_fraction(where: str, name: str, value: object) -> float:
    """Return a number from 1e-6 to 1."""
    return check_number(where, name, value, low=1e-6, high=1)


def check_choice(where: str, name: str, value: T, choices: Collection[object]) -> T:
    """Return one of the choices, which are strings or None."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise argument_error(where, name, f"one of {', '.join(map(str, choices))}", value)
    return value


def check_text(where: str, name: str, value: object) -> str:
    """Return a string that is not empty."""
    if not isinstance(value, str) or not value:
        raise argument_error(where, name, "a string that is not empty", value)
    return value


def check_callable(where: str, name: str, value: Callable[..., T]) -> Callable[..., T]:
    """Return a callable."""
    if not callable(value):
        raise argument_error(where, name, "callable", value)
    return value


def check_module(where: str, name: str, value: nn.Module | None) -> None:
    """Refuse an argument that is neither a module nor None."""
    if not (value is None or isinstance(value, nn.Module)):
        raise argument_error(where, name, "a module, or None", value)


def check_sequence(where: str, name: str, values: object, check: Callable[[str, str, object], T]) -> tuple[T, ...]:
    """Return a sequence of at least one value as a tuple; ``check(where, name, value)`` checks each."""
    if not _is_sequence(values):
        raise argument_error(where, name, "a sequence of at least 1", values)
    return tuple(check(where, f"{name}[{index}]", value) for index, value in enumerate(values))


def _is_sequence(values: object) -> TypeGuard[Sequence[object]]:
    return isinstance(values, Sequence) and not isinstance(values, str | bytes) and len(values) > 0


def check_channels(where: str, name: str, value: object) -> int:
    """Return a number of channels."""
    return check_int(where, name, value, high=MAX_CHANNELS)


def check_channel_lists(where: str, student: object, teacher: object) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the student's and the teacher's channels per level; both need the same number of levels, at least 1."""
    sides = {"student_channels": student, "teacher_channels": teacher}
    for name, values in sides.items():
        if not _is_sequence(values):
            raise ShapeError(where, name, "levels", expected="the channels of at least 1", got=short_repr(values))
    of_student, of_teacher = (check_sequence(where, name, values, check_channels) for name, values in sides.items())
    if len(of_teacher) != len(of_student):
        raise ShapeError(where, "teacher_channels", "levels", expected=len(of_student), got=len(of_teacher))
    return of_student, of_teacher


def check_mid_channels(where: str, value: object, student: Sequence[int]) -> int:
    """Return the channels inside an ABF chain; None means those of the student's deepest level."""
    return student[-1] if value is None else check_channels(where, "mid_channels", value)


def check_frozen_levels(where: str, value: object, levels: int) -> tuple[int, ...]:
    """Return numbers of levels, counted from 1; an empty sequence is allowed."""
    if isinstance(value, tuple | list) and not value:
        return ()

    def check(where: str, name: str, level: object) -> int:
        return check_int(where, name, level, high=levels)

    return check_sequence(where, "frozen_levels", value, check)
