"""Shapes, number types and devices: the checks of what a loss or block states it takes. No value is read.

What a loss asks of two pyramids, the student's and the teacher's, before it compares them level by level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmdistill.errors import ShapeError

AXES = ("batch", "channels", "height", "width")


def check_map(where: str, side: str, features: Tensor, *, channels: int | None = None, floating: bool = True) -> None:
    """Refuse what is no feature map ``(B, C, H, W)`` with at least one element, of ``channels`` channels.

    ``floating=False`` also takes whole numbers, where only the shape is looked at.
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


def check_floating(where: str, side: str, values: Tensor) -> None:
    """Refuse whole, boolean, complex and 8-bit numbers, and tensors that are sparse or not laid out by strides."""
    if not values.dtype.is_floating_point or values.dtype.itemsize == 1:
        raise ShapeError(where, side, "dtype", expected="floating point, such as torch.float32", got=values.dtype)
    check_strided(where, side, values)


def check_strided(where: str, side: str, values: Tensor) -> None:
    """Refuse sparse tensors."""
    if values.layout is not torch.strided:
        raise ShapeError(where, side, "layout", expected=torch.strided, got=values.layout)


def check_device(where: str, side: str, values: Tensor, like: Tensor, like_side: str) -> None:
    """Refuse a tensor on another device; nothing is moved."""
    if values.device != like.device:
        raise ShapeError(where, side, "device", expected=f"{like.device} as {like_side}", got=values.device)


def check_axes(
    where: str,
    side: str,
    values: object,
    axes: Sequence[str],
    like: Mapping[str, tuple[int, str]] | None = None,
) -> Tensor:
    """Return ``values`` if it is a tensor of exactly these named axes, none of them empty.

    Args:
        where: the loss that was called.
        side: which argument.
        values: the argument.
        axes: their names, such as ``("frames", "sequences", "height", "width")``.
        like: for an axis whose size is settled, that size and whose it is.
    """
    if not isinstance(values, Tensor):
        raise ShapeError(where, side, "type", expected=f"a tensor ({', '.join(axes)})", got=type(values).__name__)
    if values.ndim != len(axes):
        raise ShapeError(where, side, "axes", expected=f"{len(axes)} ({', '.join(axes)})", got=_shape(values))
    for axis, size in zip(axes, values.shape, strict=True):
        wanted, whose = (like or {}).get(axis, (size, ""))
        if size == 0:
            raise ShapeError(where, side, axis, expected="at least 1", got=0)
        if size != wanted:
            raise ShapeError(where, side, axis, expected=f"{wanted} as {whose}", got=size)
    check_strided(where, side, values)
    return values


def check_scores(where: str, side: str, scores: object, axes: int, contract: str) -> None:
    """Refuse what is no tensor, or one of fewer than ``axes`` axes, or without elements."""
    if not isinstance(scores, Tensor):
        raise ShapeError(where, side, "type", expected=f"a tensor {contract}", got=type(scores).__name__)
    if scores.ndim < axes:
        raise ShapeError(where, side, "axes", expected=contract, got=_shape(scores))
    for axis, size in enumerate(scores.shape):
        if size == 0:
            raise ShapeError(where, side, f"axis {axis}", expected="at least 1", got=0)


def check_same_shape(where: str, side: str, got: Tensor, like: Tensor, like_side: str) -> None:
    """Refuse ``got`` where its shape is not exactly that of ``like``; nothing is broadcast."""
    if not isinstance(got, Tensor):
        raise ShapeError(where, side, "type", expected=f"a tensor {_shape(like)}", got=type(got).__name__)
    if got.shape == like.shape:
        return
    if got.ndim != like.ndim:
        raise ShapeError(where, side, "axes", expected=f"{_shape(like)} as {like_side}", got=_shape(got))
    names = AXES if got.ndim == 4 else tuple(f"axis {index}" for index in range(got.ndim))
    for axis, size, wanted in zip(names, got.shape, like.shape, strict=True):
        if size != wanted:
            raise ShapeError(where, side, axis, expected=f"{wanted} as {like_side}", got=size)


def check_aligned(where: str, side: str, got: Tensor, like: Tensor, like_side: str) -> None:
    """Refuse ``got`` where its batch, height or width differs from ``like``'s; channels may differ."""
    for axis in (0, 2, 3):
        if got.shape[axis] != like.shape[axis]:
            expected = f"{like.shape[axis]} as {like_side}"
            raise ShapeError(where, side, AXES[axis], expected=expected, got=got.shape[axis])


def check_levels(where: str, side: str, levels: Sequence[object], expected: int | None = None) -> None:
    """Refuse what is no pyramid, or one with another number of levels, of at least one."""
    if isinstance(levels, Tensor) or not isinstance(levels, Sequence):
        got = type(levels).__name__
        raise ShapeError(where, side, "type", expected="a sequence of maps, shallow to deep", got=got)
    if expected is None and not levels:
        raise ShapeError(where, side, "levels", expected="at least 1", got=0)
    if expected is not None and len(levels) != expected:
        raise ShapeError(where, side, "levels", expected=expected, got=len(levels))


def check_pair(where: str, side: str, pair: object) -> None:
    """Refuse what is not two members, RGB and TIR."""
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise ShapeError(where, side, "type", expected="Pair(rgb, tir)", got=type(pair).__name__)


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def check_pyramids(
    where: str,
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    student_channels: Sequence[int],
    teacher_channels: Sequence[int],
) -> None:
    """Refuse pyramids of other levels or channels than these, or of different batch, height or width at a level."""
    for side, levels, channels in (("student", student, student_channels), ("teacher", teacher, teacher_channels)):
        check_levels(where, side, levels, len(channels))
        for number, (features, width) in enumerate(zip(levels, channels, strict=True), start=1):
            check_map(where, f"{side} level {number}", features, channels=width)
    for number, (features, like) in enumerate(zip(teacher, student, strict=True), start=1):
        check_aligned(where, f"teacher level {number}", features, like, "student")


def named_levels(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return every map by the name that an error calls it."""
    sides = {"student": student, "teacher": teacher}
    return {f"{side} level {n}": x for side, levels in sides.items() for n, x in enumerate(levels, start=1)}
