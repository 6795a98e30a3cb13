"""Checks of what a loss, block or sampler is made with: one line that names the class, the argument and what came."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Sequence
from numbers import Real
from typing import TypeGuard, TypeVar

from torch import Tensor, nn

from mmdistill.errors import ShapeError

MAX_CHANNELS = 2**16
"""More channels than a network has. Beyond it a single convolution would ask for terabytes."""

MAX_WEIGHT = 1e12
"""The largest weight of a term: times any loss of the order of 1e26 it is still a float32 number."""

MAX_NUMBER = 1e6
"""The largest value of a threshold, an exponent and the like."""

MAX_COUNT = 2**20
"""The largest number of boxes, tokens on a side and the like."""

T = TypeVar("T")


def refuse(where: str, name: str, expected: str, value: object) -> ValueError:
    """Return the error that says what an argument must be and what came, in one line."""
    return ValueError(f"{where}: {name} must be {expected}; got {shown(value)}")


def shown(value: object) -> str:
    """Return a value as one short line."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:97]}..."


def whole(where: str, name: str, value: object, *, low: int = 1, high: int = MAX_COUNT) -> int:
    """Return a whole number from ``low`` to ``high``, NumPy's too."""
    expected = f"a whole number from {low} to {high}"
    if isinstance(value, bool):
        raise refuse(where, name, expected, value)
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise refuse(where, name, expected, value) from None
    if not low <= number <= high:
        raise refuse(where, name, expected, value)
    return number


def number(where: str, name: str, value: object, *, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> float:
    """Return a number from ``low`` to ``high``; neither NaN nor infinite."""
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if low <= found <= high:
            return found
    raise refuse(where, name, f"a number from {low:g} to {high:g}", value)


def flag(where: str, name: str, value: object) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise refuse(where, name, "True or False", value)
    return value


def share(where: str, name: str, value: object) -> float:
    """Return a part of a whole, above 0 and at most 1; what is nearly 0 would leave nothing."""
    return number(where, name, value, low=1e-6, high=1)


def one_of(where: str, name: str, value: T, choices: Collection[object]) -> T:
    """Return a value that is one of the choices, all of them strings or None."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise refuse(where, name, f"one of {', '.join(map(str, choices))}", value)
    return value


def text(where: str, name: str, value: object) -> str:
    """Return a string that is not empty."""
    if not isinstance(value, str) or not value:
        raise refuse(where, name, "a string that is not empty", value)
    return value


def called(where: str, name: str, value: Callable[..., T]) -> Callable[..., T]:
    """Return what can be called."""
    if not callable(value):
        raise refuse(where, name, "callable", value)
    return value


def part(where: str, name: str, value: nn.Module | None) -> None:
    """Refuse what is neither a module nor None."""
    if not (value is None or isinstance(value, nn.Module)):
        raise refuse(where, name, "a module, or None", value)


def each(where: str, name: str, values: object, check: Callable[[str, str, object], T]) -> tuple[T, ...]:
    """Return a sequence of at least one value, each as ``check(where, name, value)`` returns it."""
    if not _is_sequence(values):
        raise refuse(where, name, "a sequence of at least 1", values)
    return tuple(check(where, f"{name}[{index}]", value) for index, value in enumerate(values))


def _is_sequence(values: object) -> TypeGuard[Sequence[object]]:
    return isinstance(values, Sequence) and not isinstance(values, str | bytes) and len(values) > 0


def channels(where: str, name: str, value: object) -> int:
    """Return a number of channels."""
    return whole(where, name, value, high=MAX_CHANNELS)


def mid_channels(where: str, value: object, student: Sequence[int]) -> int:
    """Return the channels inside an ABF chain: the student's deepest level's if None."""
    return student[-1] if value is None else channels(where, "mid_channels", value)


def frozen_levels(where: str, value: object, levels: int) -> tuple[int, ...]:
    """Return levels counted from 1; none by default."""
    if isinstance(value, tuple | list) and not value:
        return ()
    return each(where, "frozen_levels", value, lambda where, name, level: whole(where, name, level, high=levels))


def channel_lists(where: str, student: object, teacher: object) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return both sides' channels per level, as many of the teacher as of the student, of at least one level."""
    sides = {"student_channels": student, "teacher_channels": teacher}
    for name, values in sides.items():
        if not _is_sequence(values):
            raise ShapeError(where, name, "levels", expected="the channels of at least 1", got=shown(values))
    ours, theirs = (each(where, name, values, channels) for name, values in sides.items())
    if len(theirs) != len(ours):
        raise ShapeError(where, "teacher_channels", "levels", expected=len(ours), got=len(theirs))
    return ours, theirs
