"""Checks of input tensors' values and gradients, and of batch norm's state, before a loss computes anything."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdistill._checks.shapes import check_device, check_floating
from mmdistill._execution import can_read_values, has_tangent, in_transform, transform_levels
from mmdistill._numerics import to_float32
from mmdistill.errors import DeadTermWarning, NotFiniteError, ShapeError, warn


class ValueRange(NamedTuple):
    """The range that an input's values must be in.

    Attributes:
        values: the input; it should be small.
        low: smallest allowed value.
        high: largest allowed value.
        expected: the range as text, for the error.
    """

    values: Tensor
    low: float
    high: float
    expected: str

    def extremes(self) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest value; NaN if a value is NaN."""
        low, high = self.values.detach().aminmax()
        return low, high

    def exclude(self, low: float, high: float) -> bool:
        """Return whether values from ``low`` to ``high`` leave the range."""
        return low < self.low or high > self.high


def check_inputs(
    where: str,
    inputs: Mapping[str, Tensor],
    *,
    finite: bool,
    synchronized: nn.SyncBatchNorm | None = None,
    bounds: Mapping[str, ValueRange] | None = None,
    counts: Mapping[str, Tensor] | None = None,
    teaching: Collection[str] = (),
) -> None:
    """Refuse inputs that are not floating point, are on different devices or hold NaN or infinity.

    It is called before anything is computed, so a refused input leaves batch norm's statistics as they were. A teacher
    input that is 0 everywhere gives a ``DeadTermWarning``. A teacher input is one whose name begins with ``teacher``,
    or is in ``teaching``.

    Args:
        where: the loss that was called.
        inputs: every tensor that the loss reads, by name.
        finite: whether to read the values: one sum over each input, and one small transfer per call. Nothing is read
            where ``can_read_values`` is false.
        synchronized: a batch norm shared between processes; then all processes refuse what one refuses.
        bounds: ranges of values by input; checked if ``finite``, in the same transfer. Not with ``synchronized``.
        counts: for each mask, each sample's number of valid positions. A mask without any is refused; checked if
            ``finite``, in the same transfer.
        teaching: names of further teacher inputs.
    """
    assert synchronized is None or not bounds  # the transferred values are summed over the processes
    bounds, counts = bounds or {}, counts or {}
    first_side, first = next(iter(inputs.items()))
    for side, values in inputs.items():
        check_floating(where, side, values)
        check_device(where, side, values, first, first_side)
    if not finite or not can_read_values([*inputs.values(), *counts.values()]):
        return
    # A sum is not finite if one of its elements is not. A mask without positions gives NaN.
    empty = {side: (count == 0).all() for side, count in counts.items()}
    extremes = [end for bound in bounds.values() for end in bound.extremes()]
    numbers: list[float] = _all_reduce(_pack(inputs.values(), extremes, empty.values()), synchronized).tolist()
    rest = iter(numbers[len(inputs) :])
    ranges = {side: (next(rest), next(rest)) for side in bounds}
    out_of_range = {side: ends for side, ends in ranges.items() if bounds[side].exclude(*ends)}
    if not out_of_range and all(map(math.isfinite, numbers)):
        for (side, values), total in zip(inputs.items(), numbers, strict=False):
            # Values that cancel also sum to 0, so an input whose sum is 0 is read again.
            if total == 0 and (side.startswith("teacher") or side in teaching) and _is_zero(values):
                _warn(f"{where}: {side}: 0 everywhere, so it teaches nothing; was it computed?")
        return
    # A sum of finite numbers may overflow, so each input is now read by itself.
    broken = {side: int((~torch.isfinite(values)).sum()) for side, values in inputs.items()}
    unset = [side for side, is_empty in empty.items() if bool(is_empty)]
    faults = torch.tensor(float(sum(broken.values()) + len(out_of_range) + len(unset)), device=first.device)
    faults = _all_reduce(faults, synchronized)
    for side, count in broken.items():
        if count:
            raise NotFiniteError(where, side, "values", expected="finite", got=f"{count} NaN or infinite")
    for side, (low, high) in out_of_range.items():
        raise ShapeError(where, side, "values", expected=bounds[side].expected, got=f"{low:.4g} to {high:.4g}")
    for side in unset:
        raise ShapeError(where, side, "values", expected="at least one position that counts", got="none")
    if bool(faults):
        got = "NaN or infinite, or masks without positions" if empty else "NaN or infinite"
        raise NotFiniteError(where, "the inputs of another process", "values", expected="finite", got=got)


def synchronized_batch_norm(module: nn.Module) -> nn.SyncBatchNorm | None:
    """Return a batch norm that shares its statistics with other processes in this call, or None."""
    if not module.training or not (dist.is_available() and dist.is_initialized()):
        return None
    return next((part for part in module.modules() if isinstance(part, nn.SyncBatchNorm)), None)


def check_batch_norm_size(where: str, side: str, norm: nn.Module, features: Tensor) -> None:
    """Refuse features with a single value per channel if a batch norm in training takes statistics from them."""
    if not (isinstance(norm, _BatchNorm) and norm.training) or features.shape[0] * features.shape[2:].numel() > 1:
        return
    in_processes = dist.is_available() and dist.is_initialized()
    if in_processes and isinstance(norm, nn.SyncBatchNorm) and dist.get_world_size(norm.process_group) > 1:
        return
    expected = "at least 2 for batch norm in training (a larger batch, larger maps, or eval() of the loss)"
    raise ShapeError(where, side, "values per channel", expected=expected, got=1)


def check_batch_norm_state(where: str, side: str, module: nn.Module, values: Tensor) -> None:
    """Refuse transforms of ``torch.func`` in which batch norm in training mode cannot change its state."""
    if torch.compiler.is_compiling() or not in_transform():
        return
    active = transform_levels().derivative
    batches = frozenset[int]().union(*(transform_levels(tensor).vmap for tensor in (values, *module.parameters())))
    for part in module.modules():
        statistics = getattr(part, "running_mean", None)
        if not part.training or statistics is None:
            continue
        own = transform_levels(statistics)
        remedy = "call .eval(), or give a copy of the buffers by torch.func.functional_call"
        if not batches <= own.vmap:
            expected = f"one batch for one state of batch norm in training mode; {remedy}, stacked"
            raise ShapeError(where, side, "vmap", expected=expected, got="several batches for one state")
        if not active <= own.derivative:
            expected = f"a state of batch norm that may change here; {remedy}, made inside the transform"
            raise ShapeError(where, side, "torch.func", expected=expected, got="the module's own, in training mode")


def _all_reduce(value: Tensor, synchronized: nn.SyncBatchNorm | None) -> Tensor:
    if synchronized is not None:
        dist.all_reduce(value, group=synchronized.process_group)
    return value


def _pack(inputs: Iterable[Tensor], extremes: Iterable[Tensor], empty: Iterable[Tensor]) -> Tensor:
    """Return one vector: each input's sum, the extremes, and for each mask NaN if it is empty, else 0.

    At least float32: float16 overflows, and its autocast cannot stack bfloat16.
    """
    numbers = [_sum(values.detach()) for values in inputs]
    numbers += [to_float32(end) for end in extremes]
    return torch.stack([*numbers, *(torch.where(is_empty, torch.nan, 0.0) for is_empty in empty)])


def _sum(values: Tensor) -> Tensor:
    # Naming a dtype costs as much again as the sum of a small map.
    return values.sum() if values.dtype in (torch.float32, torch.float64) else values.sum(dtype=torch.float32)


def _is_zero(values: Tensor) -> bool:
    """Return whether all values are 0; False if gradients are off."""
    return torch.is_grad_enabled() and not bool(values.any())


def select_side(side: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the inputs whose names begin with ``side``, ``"student"`` or ``"teacher"``."""
    return {name: values for name, values in inputs.items() if name.startswith(side)}


def check_gradients(
    where: str,
    student: Mapping[str, Tensor] | Iterable[Tensor],
    teacher: Iterable[Tensor],
    *,
    frozen: Iterable[int] = (),
) -> None:
    """Warn if no student input requires gradient, if some do not, or if the teacher's tensor is the student's.

    There is no warning if gradients are off, as in validation, nor inside ``torch.compile`` and transforms.

    Args:
        where: the loss that was called.
        student: the student's inputs. Those given by name, such as ``"student tir level 2"``, must all require
            gradient.
        teacher: the teacher's inputs.
        frozen: levels, counted from 1, that need no gradient.
    """
    named = student if isinstance(student, Mapping) else {}
    student = tuple(student.values() if isinstance(student, Mapping) else student)
    if not torch.is_grad_enabled() or not can_read_values(student):
        return
    alive = any(features.requires_grad for features in student)
    if not alive and not has_tangent(student):
        _warn(f"{where}: no student input requires gradient, so no student learns from this loss; is it the teacher's?")
    dead = [name for name, features in named.items() if alive and not features.requires_grad]
    for name in dead if not has_tangent(student) else ():
        if not any(name.endswith(f"level {level}") for level in frozen):
            cause = "is it detached, or made under no_grad or by a reentrant checkpoint?"
            remedy = "if its layers are frozen, give the loss frozen_levels"
            _warn(f"{where}: {name} requires no gradient but other student inputs do; {cause} {remedy}")
    memory = {_memory(features) for features in student}
    if any(_memory(features) in memory for features in teacher):
        _warn(f"{where}: the student and the teacher are the same tensor; the teacher's features were given twice")


def check_modalities_differ(where: str, side: str, rgb: Tensor, tir: Tensor) -> None:
    """Warn if RGB and TIR are one tensor, as when one call of a shared network is used for both."""
    if torch.is_grad_enabled() and can_read_values((rgb, tir)) and _memory(rgb) == _memory(tir):
        _warn(f"{where}: {side}: RGB and TIR are the same tensor, so what is specific to either is lost")


def _warn(message: str) -> None:
    warn(message, DeadTermWarning)


def _memory(tensor: Tensor) -> object:
    """Return a value that is equal for two views of the same memory."""
    if type(tensor) is not Tensor:
        return id(tensor)
    return tensor.data_ptr(), tensor.shape, tensor.stride()
