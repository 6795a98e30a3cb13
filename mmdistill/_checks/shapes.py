"""Checks of input tensors' shapes, dtypes, layouts and devices, which read no value, and names of levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmdistill.errors import ShapeError

AXES = ("batch", "channels", "height", "width")


def check_map(where: str, side: str, features: Tensor, *, channels: int | None = None, floating: bool = True) -> None:
    """Refuse an input that is not a non-empty feature map ``(B, C, H, W)``.

    Args:
        where: the loss or block that was called.
        side: the input.
        features: its value.
        channels: the expected C; None for any.
        floating: whether the dtype must be floating point.
    """
    if not isinstance(features, Tensor):
        raise ShapeError(where, side, "type", expected="a tensor (B, C, H, W)", got=type(features).__name__)
    if features.ndim != 4:
        raise ShapeError(where, side, "axes", expected="4 (B, C, H, W)", got=_shape(features))
    for axis, size in zip(AXES, features.shape, strict=True):
        if size == 0:
            raise ShapeError(where, side, axis, expected="at least 1", got=0)
    if channels is not None and features.shape[1] != channels:
        raise ShapeError(where, side, "channels", expected=channels, got=features.shape[1])
    check = check_floating if floating else check_strided
    check(where, side, features)


def check_axes(
    where: str,
    side: str,
    values: object,
    axes: Sequence[str],
    like: Mapping[str, tuple[int, str]] | None = None,
) -> Tensor:
    """Return ``values`` if it is a non-empty tensor of exactly these axes.

    Args:
        where: the loss or block that was called.
        side: the input.
        values: its value.
        axes: the axes' names, such as ``("frames", "sequences", "height", "width")``.
        like: for axes of known size, the size and the input that has it.
    """
    if not isinstance(values, Tensor):
        raise ShapeError(where, side, "type", expected=f"a tensor ({', '.join(axes)})", got=type(values).__name__)
    if values.ndim != len(axes):
        raise ShapeError(where, side, "axes", expected=f"{len(axes)} ({', '.join(axes)})", got=_shape(values))
    for axis, size in zip(axes, values.shape, strict=True):
        wanted, other = (like or {}).get(axis, (size, ""))
        if size == 0:
            raise ShapeError(where, side, axis, expected="at least 1", got=0)
        if size != wanted:
            raise ShapeError(where, side, axis, expected=f"{wanted} as {other}", got=size)
    check_strided(where, side, values)
    return values


def check_min_axes(where: str, side: str, values: object, axes: int, contract: str) -> None:
    """Refuse an input that is not a non-empty tensor of at least ``axes`` axes.

    Args:
        where: the loss or block that was called.
        side: the input.
        values: its value.
        axes: the smallest number of axes.
        contract: the expected shape as text, such as ``"(..., H, W)"``.
    """
    if not isinstance(values, Tensor):
        raise ShapeError(where, side, "type", expected=f"a tensor {contract}", got=type(values).__name__)
    if values.ndim < axes:
        raise ShapeError(where, side, "axes", expected=contract, got=_shape(values))
    for axis, size in enumerate(values.shape):
        if size == 0:
            raise ShapeError(where, side, f"axis {axis}", expected="at least 1", got=0)


def check_floating(where: str, side: str, values: Tensor) -> None:
    """Refuse integer, boolean, complex and 8-bit dtypes, and sparse tensors."""
    if not values.dtype.is_floating_point or values.dtype.itemsize == 1:
        raise ShapeError(where, side, "dtype", expected="floating point, such as torch.float32", got=values.dtype)
    check_strided(where, side, values)


def check_strided(where: str, side: str, values: Tensor) -> None:
    """Refuse sparse tensors."""
    if values.layout is not torch.strided:
        raise ShapeError(where, side, "layout", expected=torch.strided, got=values.layout)


def check_device(where: str, side: str, values: Tensor, like: Tensor, like_side: str) -> None:
    """Refuse a tensor on another device than ``like``; nothing is moved."""
    if values.device != like.device:
        raise ShapeError(where, side, "device", expected=f"{like.device} as {like_side}", got=values.device)


def check_same_shape(where: str, side: str, values: Tensor, like: Tensor, like_side: str) -> None:
    """Refuse a tensor of another shape than ``like``; nothing is broadcast."""
    if not isinstance(values, Tensor):
        raise ShapeError(where, side, "type", expected=f"a tensor {_shape(like)}", got=type(values).__name__)
    if values.shape == like.shape:
        return
    if values.ndim != like.ndim:
        raise ShapeError(where, side, "axes", expected=f"{_shape(like)} as {like_side}", got=_shape(values))
    names = AXES if values.ndim == 4 else tuple(f"axis {index}" for index in range(values.ndim))
    for axis, size, wanted in zip(names, values.shape, like.shape, strict=True):
        if size != wanted:
            raise ShapeError(where, side, axis, expected=f"{wanted} as {like_side}", got=size)


def check_aligned(where: str, side: str, features: Tensor, like: Tensor, like_side: str) -> None:
    """Refuse a map whose batch, height or width differs from ``like``'s; channels may differ."""
    for axis in (0, 2, 3):
        if features.shape[axis] != like.shape[axis]:
            expected = f"{like.shape[axis]} as {like_side}"
            raise ShapeError(where, side, AXES[axis], expected=expected, got=features.shape[axis])


def check_pair(where: str, side: str, pair: object) -> None:
    """Refuse an input that is not a tuple of two members, RGB and TIR."""
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise ShapeError(where, side, "type", expected="Pair(rgb, tir)", got=type(pair).__name__)


def check_levels(where: str, side: str, levels: Sequence[object], expected: int | None = None) -> None:
    """Refuse an input that is not a sequence of ``expected`` levels, or, with None, of at least one."""
    if isinstance(levels, Tensor) or not isinstance(levels, Sequence):
        got = type(levels).__name__
        raise ShapeError(where, side, "type", expected="a sequence of maps, shallow to deep", got=got)
    if expected is None and not levels:
        raise ShapeError(where, side, "levels", expected="at least 1", got=0)
    if expected is not None and len(levels) != expected:
        raise ShapeError(where, side, "levels", expected=expected, got=len(levels))


def check_pyramid(where: str, side: str, levels: Sequence[Tensor], channels: Sequence[int]) -> None:
    """Refuse a pyramid of another number of levels, or with a level that is no map of its ``channels``."""
    check_levels(where, side, levels, len(channels))
    for number, (features, width) in enumerate(zip(levels, channels, strict=True), start=1):
        check_map(where, f"{side} level {number}", features, channels=width)


def check_pyramids(
    where: str,
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    student_channels: Sequence[int],
    teacher_channels: Sequence[int],
) -> None:
    """Refuse wrong pyramids, and levels whose batch, height or width differ between student and teacher."""
    check_pyramid(where, "student", student, student_channels)
    check_pyramid(where, "teacher", teacher, teacher_channels)
    for number, (features, like) in enumerate(zip(teacher, student, strict=True), start=1):
        check_aligned(where, f"teacher level {number}", features, like, "student")


def named_levels(sides: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """Return all levels of several pyramids by the names that errors use, such as ``"student level 2"``."""
    return {f"{side} level {n}": level for side, levels in sides.items() for n, level in enumerate(levels, start=1)}


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
