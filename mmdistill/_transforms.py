"""What runs the code: plain PyTorch, or a transform or compiler, inside which tensors show no values."""

from __future__ import annotations

from collections.abc import Iterable

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


def vmap_levels(values: Tensor) -> set[int]:
    """Return the nested ``vmap`` calls, by their levels, over which this tensor has one value each."""
    private, levels = getattr(torch._C, "_functorch", None), set[int]()
    try:
        while private is not None and private.is_functorch_wrapped_tensor(values):
            if private.is_batchedtensor(values):
                levels.add(private.maybe_get_level(values))
            values = private.get_unwrapped(values)
    except AttributeError:  # another PyTorch: its own error comes instead
        return set()
    return levels


def has_tangent(tensors: Iterable[Tensor]) -> bool:
    """Whether forward-mode differentiation goes through one of these tensors."""
    return any(unpack_dual(values).tangent is not None for values in tensors)  # type: ignore[no-untyped-call]


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
