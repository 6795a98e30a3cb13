"""What runs the code: plain PyTorch, or a transform or compiler, inside which tensors show no values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual


def transforming() -> bool:
    """Whether a transform of ``torch.func`` (``grad``, ``vmap``, ``jvp``, ...) is active."""
    # PyTorch tells it only in private; where that changes, transforms get PyTorch's own error.
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return bool(active is not None and active())


def is_batched(gradient: Tensor) -> bool:
    """Whether a gradient is taken in a batch: by a transform, or by ``torch.autograd.grad(is_grads_batched=True)``."""
    legacy = getattr(getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", None)
    return transforming() or bool(legacy is not None and legacy(gradient))


class Nesting(NamedTuple):
    """Transforms nested in one another, by their levels."""

    vmap: frozenset[int]
    derivative: frozenset[int]


def nesting(values: Tensor | None = None) -> Nesting:
    """Return the active transforms, or those that this tensor is made inside of.

    A ``vmap`` is among a tensor's where the tensor has one value for each of its calls.
    """
    try:
        levels = _active() if values is None else _around(values)
    except (AttributeError, ImportError):  # PyTorch tells it only in private; without it its own errors come
        levels = []
    return Nesting(*(frozenset(level for level, batched in levels if batched is kind) for kind in (True, False)))


def _active() -> list[tuple[int, bool]]:
    stack = torch._C._functorch.get_interpreter_stack() or ()
    return [(each.level(), each.key() == torch._C._functorch.TransformType.Vmap) for each in stack]


def _around(values: Tensor) -> list[tuple[int, bool]]:
    functorch, levels = torch._C._functorch, []
    while functorch.is_functorch_wrapped_tensor(values):
        levels.append((functorch.maybe_get_level(values), functorch.is_batchedtensor(values)))
        values = functorch.get_unwrapped(values)
    return levels


def has_tangent(tensors: Iterable[Tensor]) -> bool:
    """Whether forward-mode differentiation goes through one of these tensors."""
    return any(unpack_dual(values).tangent is not None for values in tensors)  # type: ignore[no-untyped-call]


def detached(values: Tensor) -> Tensor:
    """Return a teacher's tensor, a label or a mask without gradient, as autograd can save it: see ``savable``."""
    return savable(values.detach())


def savable(values: Tensor) -> Tensor:
    """Return the tensor as autograd can save it for a gradient: a copy where it was made in ``torch.inference_mode``.

    Such a tensor is a constant. Nothing is copied where gradients are off, nor inside ``torch.compile``. The
    compiler can't recognize these tensors; there PyTorch's own error asks for ``torch.no_grad`` instead.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or not values.is_inference():
        return values
    return values.clone()


def channels_last(features: Tensor) -> Tensor:
    """Return a map ``(B, C, H, W)`` laid out channels last; as it is inside a transform, which knows no layouts."""
    return features if transforming() else features.contiguous(memory_format=torch.channels_last)


def has_values(tensors: Iterable[Tensor]) -> bool:
    """Whether the values can be read here: where code ``runs_eagerly``, and not of meta tensors."""
    given = tuple(tensors)
    return runs_eagerly(given) and not any(values.is_meta for values in given)


def runs_eagerly(tensors: Iterable[Tensor]) -> bool:
    """Whether each call computes its own numbers, so that what is drawn at random may be a plain number.

    Not inside ``torch.compile``, ``torch.export`` and the transforms of ``torch.func``, not of fake tensors, and not
    while a CUDA graph is captured.
    """
    if torch.compiler.is_compiling() or transforming():
        return False
    return not any(_is_traced(values) for values in tensors)


def _is_traced(values: Tensor) -> bool:
    if type(values).__name__ == "FakeTensor":
        return True
    return values.is_cuda and torch.cuda.is_current_stream_capturing()
