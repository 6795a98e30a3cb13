"""How PyTorch runs the code: eagerly, inside a transform of ``torch.func``, or inside a compiler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual


def in_transform() -> bool:
    """Return whether a transform of ``torch.func`` (``grad``, ``vmap``, ``jvp``, ...) is active."""
    # PyTorch has no public function for this. If the private one goes, transforms raise PyTorch's own errors.
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return bool(active is not None and active())


def is_batched(gradient: Tensor) -> bool:
    """Return whether gradients are computed in a batch, by a transform or ``torch.autograd.grad(is_grads_batched)``."""
    legacy = getattr(getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", None)
    return in_transform() or bool(legacy is not None and legacy(gradient))


class TransformLevels(NamedTuple):
    """Nested transforms by kind; PyTorch numbers them by depth.

    Attributes:
        vmap: levels of ``vmap``.
        derivative: levels of ``grad``, ``jvp`` and other derivatives.
    """

    vmap: frozenset[int]
    derivative: frozenset[int]


def transform_levels(values: Tensor | None = None) -> TransformLevels:
    """Return the active transforms, or those that wrap this tensor.

    A ``vmap`` wraps a tensor if the tensor has one value for each of the ``vmap``'s samples.
    """
    try:
        levels = _active_levels() if values is None else _wrapping_levels(values)
    except (AttributeError, ImportError):  # these functions are private; without them PyTorch raises its own errors
        levels = []
    vmap, derivative = (frozenset(level for level, batched in levels if batched is kind) for kind in (True, False))
    return TransformLevels(vmap, derivative)


def _active_levels() -> list[tuple[int, bool]]:
    stack = torch._C._functorch.get_interpreter_stack() or ()
    return [(each.level(), each.key() == torch._C._functorch.TransformType.Vmap) for each in stack]


def _wrapping_levels(values: Tensor) -> list[tuple[int, bool]]:
    functorch, levels = torch._C._functorch, []
    while functorch.is_functorch_wrapped_tensor(values):
        levels.append((functorch.maybe_get_level(values), functorch.is_batchedtensor(values)))
        values = functorch.get_unwrapped(values)
    return levels


def has_tangent(tensors: Iterable[Tensor]) -> bool:
    """Return whether one of these tensors carries a tangent of forward-mode differentiation."""
    return any(unpack_dual(values).tangent is not None for values in tensors)  # type: ignore[no-untyped-call]


def detached(values: Tensor) -> Tensor:
    """Return the tensor without gradient, as a normal tensor; see ``as_normal_tensor``."""
    return as_normal_tensor(values.detach())


def as_normal_tensor(values: Tensor) -> Tensor:
    """Return the tensor, or a copy if it is an inference tensor, which autograd cannot save for a gradient.

    Nothing is copied if gradients are off, nor inside ``torch.compile``: the compiler does not recognize inference
    tensors, and PyTorch's own error then asks for ``torch.no_grad``.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or not values.is_inference():
        return values
    return values.clone()


def to_channels_last(features: Tensor) -> Tensor:
    """Return a map ``(B, C, H, W)`` in channels-last layout; unchanged in a transform, which has no layouts."""
    return features if in_transform() else features.contiguous(memory_format=torch.channels_last)


def is_channels_last(features: Tensor) -> bool:
    """Return whether a map ``(B, C, H, W)`` is in channels-last layout; false in a transform, which has no layouts."""
    return not in_transform() and features.is_contiguous(memory_format=torch.channels_last)


def can_read_values(tensors: Iterable[Tensor]) -> bool:
    """Return whether Python can read these tensors' values: they are not meta tensors, and code ``runs_eagerly``."""
    tensors = tuple(tensors)
    return runs_eagerly(tensors) and not any(values.is_meta for values in tensors)


def runs_eagerly(tensors: Iterable[Tensor]) -> bool:
    """Return whether each call runs this Python code, so that random draws may be Python numbers.

    It is false inside ``torch.compile``, ``torch.export`` and transforms of ``torch.func``, for fake tensors, and
    while a CUDA graph is captured.
    """
    if torch.compiler.is_compiling() or in_transform():
        return False
    return not any(_is_traced(values) for values in tensors)


def _is_traced(values: Tensor) -> bool:
    if type(values).__name__ == "FakeTensor":
        return True
    return values.is_cuda and torch.cuda.is_current_stream_capturing()
