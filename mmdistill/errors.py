"""ShapeError, NotFiniteError, DeadTermWarning, and the few checks that raise or give them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor


class ShapeError(ValueError):
    """A tensor given to a loss or block has not the shape its contract states.

    The message names the loss, the side (which argument), the axis, what was expected and what came.

    Attributes:
        where: the loss or block that was called.
        side: which input, such as ``"teacher rgb level 2"``.
        axis: which axis, such as ``"height"``; what is counted where no axis fits, such as ``"levels"``.
        expected: what the contract asks for.
        got: what came.
    """

    def __init__(self, where: str, side: str, axis: str, *, expected: object, got: object) -> None:
        self.where, self.side, self.axis, self.expected, self.got = where, side, axis, expected, got
        super().__init__(f"{where}: {side}: {axis}: expected {expected}, got {got}")


class NotFiniteError(ShapeError):
    """A tensor given to a loss holds NaN or infinity.

    A kind of ``ShapeError`` so that one ``except`` catches every refused input.
    """


class DeadTermWarning(UserWarning):
    """A loss was given inputs from which no student can learn."""


AXES = ("batch", "channels", "height", "width")


def check_map(where: str, side: str, features: Tensor, *, channels: int | None = None) -> None:
    """Refuse what is no feature map ``(B, C, H, W)`` with at least one element, of ``channels`` channels."""
    if not isinstance(features, Tensor):
        raise ShapeError(where, side, "type", expected="a tensor (B, C, H, W)", got=type(features).__name__)
    if features.ndim != 4:
        raise ShapeError(where, side, "axes", expected="4 (B, C, H, W)", got=_shape(features))
    for axis, size in zip(AXES, features.shape, strict=True):
        if size == 0:
            raise ShapeError(where, side, axis, expected="at least 1", got=0)
    if channels is not None and features.shape[1] != channels:
        raise ShapeError(where, side, "channels", expected=channels, got=features.shape[1])


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
    return values


def check_scores(where: str, side: str, scores: Tensor, axes: int, contract: str) -> None:
    """Refuse scores of fewer than ``axes`` axes, or of none at all."""
    if scores.ndim < axes:
        raise ShapeError(where, side, "axes", expected=contract, got=_shape(scores))
    for axis, size in enumerate(scores.shape):
        if size == 0:
            raise ShapeError(where, side, f"axis {axis}", expected="at least 1", got=0)


def check_same_shape(where: str, side: str, got: Tensor, like: Tensor, like_side: str) -> None:
    """Refuse ``got`` where its shape is not exactly that of ``like``; nothing is broadcast."""
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


def check_levels(where: str, side: str, levels: Sequence[object], expected: int) -> None:
    """Refuse a pyramid with another number of levels."""
    if isinstance(levels, Tensor) or not isinstance(levels, Sequence):
        got = type(levels).__name__
        raise ShapeError(where, side, "type", expected="a sequence of maps, shallow to deep", got=got)
    if len(levels) != expected:
        raise ShapeError(where, side, "levels", expected=expected, got=len(levels))


def check_pair(where: str, side: str, pair: object) -> None:
    """Refuse what is not two members, RGB and TIR."""
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise ShapeError(where, side, "type", expected="Pair(rgb, tir)", got=type(pair).__name__)


def check_finite(where: str, total: Tensor, inputs: Mapping[str, Tensor]) -> None:
    """Name the first input that holds NaN or infinity, if the loss's total does.

    Only the scalar total is looked at while all is well: one small read per call. Inputs that are all finite
    pass, whatever the total is: an overflow is then the loss's own and AMP's gradient scaler deals with it.
    Nothing is checked inside ``torch.compile`` and ``torch.export``, where a read would break the graph.
    """
    if torch.compiler.is_compiling() or bool(torch.isfinite(total)):
        return
    for side, values in inputs.items():
        broken = ~torch.isfinite(values)
        if bool(broken.any()):
            count = int(broken.sum())
            raise NotFiniteError(where, side, "values", expected="finite", got=f"{count} NaN or infinite")


def check_alive(where: str, student: Iterable[Tensor], teacher: Iterable[Tensor]) -> None:
    """Warn where this loss can teach nobody: no student input carries gradient, or the teacher is given twice.

    Nothing is said where gradients are off, as in validation, nor inside ``torch.compile`` and ``torch.export``.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return
    student = tuple(student)
    if not any(features.requires_grad for features in student):
        _warn(f"{where}: no student input requires gradient, so no student learns from this loss; is it the teacher's?")
    given = {_memory(features) for features in student}
    if any(_memory(features) in given for features in teacher):
        _warn(f"{where}: the student and the teacher are the same tensor; the teacher's features were given twice")


def check_different(where: str, side: str, rgb: Tensor, tir: Tensor) -> None:
    """Warn where one tensor is given as both modalities: a network called twice, of which one call was taken."""
    if not torch.compiler.is_compiling() and torch.is_grad_enabled() and _memory(rgb) == _memory(tir):
        _warn(f"{where}: {side}: RGB and TIR are the same tensor, so what is specific to either is lost")


def _warn(message: str) -> None:
    # Past _warn, check_alive, forward and the two frames of nn.Module: the line that called the loss.
    warnings.warn(message, DeadTermWarning, stacklevel=6)


def _memory(tensor: Tensor) -> object:
    """Return what two views of the same values have in common."""
    if tensor.is_meta or type(tensor) is not Tensor:
        return id(tensor)
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
