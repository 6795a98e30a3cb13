"""What a loss looks at in its inputs before it computes anything: values, gradients, and batch norm's state."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdistill._contracts import check_device, check_floating
from mmdistill._numerics import to_float32
from mmdistill._transforms import has_tangent, has_values, nesting, transforming
from mmdistill.errors import DeadTermWarning, NotFiniteError, ShapeError, warn


class Bounds(NamedTuple):
    """The range of some small input's values, both ends included, and how an error calls it."""

    values: Tensor
    low: float
    high: float
    expected: str

    def ends(self) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest value; NaN where a value is."""
        low, high = self.values.detach().aminmax()
        return low, high

    def exclude(self, low: float, high: float) -> bool:
        """Whether the smallest or the largest value is out of range."""
        return low < self.low or high > self.high


def check_inputs(
    where: str,
    inputs: Mapping[str, Tensor],
    *,
    finite: bool,
    synchronized: nn.SyncBatchNorm | None = None,
    bounds: Mapping[str, Bounds] | None = None,
    counts: Mapping[str, Tensor] | None = None,
    teaching: Collection[str] = (),
) -> None:
    """Refuse inputs that are not floating point, are on different devices or hold NaN or infinity, by name.

    Called before anything is computed, so what is refused leaves no trace: batch norm's statistics stay. An input
    that teaches, as one whose name begins with ``teacher``, is reported where it is 0 everywhere.

    Args:
        where: the loss that was called.
        inputs: every tensor that the loss reads, by the name that an error calls it.
        finite: whether to look at the values: one sum over each input, and one small read per call. Nothing is read
            inside ``torch.compile`` and the like, see ``has_values``.
        synchronized: batch norm that other processes wait for. All of them then refuse what one refuses.
        bounds: ranges of values, by the name of the input; looked at with ``finite``, in the same read. Not for a
            loss with ``synchronized``.
        counts: of each mask, how many positions count in each sample; refused where none does in any. Looked at with
            ``finite``, in the same read.
        teaching: names of other inputs that teach.
    """
    assert synchronized is None or not bounds  # what is read is summed over the processes
    bounds, counts = bounds or {}, counts or {}
    first_side, first = next(iter(inputs.items()))
    for side, values in inputs.items():
        check_floating(where, side, values)
        check_device(where, side, values, first, first_side)
    if not finite or not has_values([*inputs.values(), *counts.values()]):
        return
    # One read of all. The sum of all elements is not finite where one of them is not. Masks without positions give NaN.
    empty = {side: (count == 0).all() for side, count in counts.items()}
    ends = [end for bound in bounds.values() for end in bound.ends()]
    read: list[float] = _over_processes(_read(inputs.values(), ends, empty.values()), synchronized).tolist()
    found = iter(read[len(inputs) :])
    ranges = {side: (next(found), next(found)) for side in bounds}
    beyond = {side: ends for side, ends in ranges.items() if bounds[side].exclude(*ends)}
    if not beyond and all(map(math.isfinite, read)):
        for (side, values), total in zip(inputs.items(), read, strict=False):
            # Of other numbers too the sum may be 0, so the few inputs of which it is are looked at once more.
            if total == 0 and (side.startswith("teacher") or side in teaching) and _is_zero(values):
                _warn(f"{where}: {side}: 0 everywhere, so it teaches nothing; was it computed?")
        return
    # The sum of finite numbers may overflow, so each input is looked at by itself.
    broken = {side: int((~torch.isfinite(values)).sum()) for side, values in inputs.items()}
    unset = [side for side, none in empty.items() if bool(none)]
    faults = torch.tensor(float(sum(broken.values()) + len(beyond) + len(unset)), device=first.device)
    faults = _over_processes(faults, synchronized)
    for side, count in broken.items():
        if count:
            raise NotFiniteError(where, side, "values", expected="finite", got=f"{count} NaN or infinite")
    for side, (low, high) in beyond.items():
        raise ShapeError(where, side, "values", expected=bounds[side].expected, got=f"{low:.4g} to {high:.4g}")
    for side in unset:
        raise ShapeError(where, side, "values", expected="at least one position that counts", got="none")
    if bool(faults):
        got = "NaN or infinite, or masks without positions" if empty else "NaN or infinite"
        raise NotFiniteError(where, "the inputs of another process", "values", expected="finite", got=got)


def synchronized_statistics(module: nn.Module) -> nn.SyncBatchNorm | None:
    """Return the batch norm, if there is one, that shares its statistics with other processes in this call."""
    if not module.training or not (dist.is_available() and dist.is_initialized()):
        return None
    return next((part for part in module.modules() if isinstance(part, nn.SyncBatchNorm)), None)


def check_batch_norm(where: str, side: str, norm: nn.Module, features: Tensor) -> None:
    """Refuse features with one value per channel where a batch norm in training takes its statistics of them."""
    if not (isinstance(norm, _BatchNorm) and norm.training) or features.shape[0] * features.shape[2:].numel() > 1:
        return
    in_processes = dist.is_available() and dist.is_initialized()
    if in_processes and isinstance(norm, nn.SyncBatchNorm) and dist.get_world_size(norm.process_group) > 1:
        return
    expected = "at least 2 for batch norm in training (a larger batch, larger maps, or eval() of the loss)"
    raise ShapeError(where, side, "values per channel", expected=expected, got=1)


def check_transforms(where: str, side: str, module: nn.Module, values: Tensor) -> None:
    """Refuse what no transform of ``torch.func`` can do with batch norm in training mode, which changes its state."""
    if torch.compiler.is_compiling() or not transforming():
        return
    active = nesting().derivative
    several = frozenset[int]().union(*(nesting(given).vmap for given in (values, *module.parameters())))
    for part in module.modules():
        statistics = getattr(part, "running_mean", None)
        if not part.training or statistics is None:
            continue
        own = nesting(statistics)
        remedy = "call .eval(), or give a copy of the buffers by torch.func.functional_call"
        if not several <= own.vmap:
            expected = f"one batch for one state of batch norm in training mode; {remedy}, stacked"
            raise ShapeError(where, side, "vmap", expected=expected, got="several batches for one state")
        if not active <= own.derivative:
            expected = f"a state of batch norm that may change here; {remedy}, made inside the transform"
            raise ShapeError(where, side, "torch.func", expected=expected, got="the module's own, in training mode")


def _over_processes(value: Tensor, synchronized: nn.SyncBatchNorm | None) -> Tensor:
    if synchronized is not None:
        dist.all_reduce(value, group=synchronized.process_group)
    return value


def _read(inputs: Iterable[Tensor], ends: Iterable[Tensor], empty: Iterable[Tensor]) -> Tensor:
    """Return each input's sum, the ends of ranges, and NaN for each mask without positions, else 0.

    In float32 at least: float16 overflows, and its autocast stacks no bfloat16.
    """
    read = [_sum(values.detach()) for values in inputs]
    read += [to_float32(end) for end in ends]
    return torch.stack([*read, *(torch.where(one, torch.nan, 0.0) for one in empty)])


def _sum(values: Tensor) -> Tensor:
    # Naming a number type costs as much again as the sum of a small map.
    return values.sum() if values.dtype in (torch.float32, torch.float64) else values.sum(dtype=torch.float32)


def _is_zero(values: Tensor) -> bool:
    """Whether an input to learn from is 0 everywhere; not looked at where gradients are off."""
    return torch.is_grad_enabled() and not bool(values.any())


def of_side(side: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the inputs of one side, ``"student"`` or ``"teacher"``, by which their names begin."""
    return {name: values for name, values in inputs.items() if name.startswith(side)}


def check_alive(
    where: str,
    student: Mapping[str, Tensor] | Iterable[Tensor],
    teacher: Iterable[Tensor],
    *,
    frozen: Iterable[int] = (),
) -> None:
    """Warn where this loss can teach nobody, or not all: no student input carries gradient, or some named ones do not.

    Also where the teacher is given twice. Nothing is said where gradients are off, as in validation, nor inside
    ``torch.compile`` and the like.

    Args:
        where: the loss that was called.
        student: what is to learn; by name, such as ``"student tir level 2"``, where all of it is to.
        teacher: what teaches.
        frozen: levels, counted from 1, that need not learn.
    """
    named = student if isinstance(student, Mapping) else {}
    student = tuple(student.values() if isinstance(student, Mapping) else student)
    if not torch.is_grad_enabled() or not has_values(student):
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
    given = {_memory(features) for features in student}
    if any(_memory(features) in given for features in teacher):
        _warn(f"{where}: the student and the teacher are the same tensor; the teacher's features were given twice")


def check_different(where: str, side: str, rgb: Tensor, tir: Tensor) -> None:
    """Warn where one tensor is given as both modalities: a network called twice, of which one call was taken."""
    if torch.is_grad_enabled() and has_values((rgb, tir)) and _memory(rgb) == _memory(tir):
        _warn(f"{where}: {side}: RGB and TIR are the same tensor, so what is specific to either is lost")


def _warn(message: str) -> None:
    warn(message, DeadTermWarning)


def _memory(tensor: Tensor) -> object:
    """Return what two views of the same values have in common."""
    if type(tensor) is not Tensor:
        return id(tensor)
    return tensor.data_ptr(), tensor.shape, tensor.stride()
