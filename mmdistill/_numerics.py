"""Squared errors in float32 or wider, DiMP's residual, and contexts that turn autocast off."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from mmdistill._masks import Mask

Reduction = Literal["sum", "mean"]
"""What is taken over a sample's channels and positions; over samples it is always the mean."""


def to_float32(values: Tensor) -> Tensor:
    """Return the values in float32; float64 is left as it is."""
    return values if values.dtype in (torch.float32, torch.float64) else values.to(torch.float32)


def squared_error(
    first: Tensor, second: Tensor, mask: Tensor | Mask | None = None, *, reduction: Reduction = "sum"
) -> Tensor:
    """Return the squared difference of two maps ``(B, C, H, W)``, a scalar: the mean over samples.

    Args:
        first: ``(B, C, H, W)``.
        second: the same shape.
        mask: booleans ``(B, 1, H, W)``, true where a position counts.
        reduction: the sum or the mean over a sample's channels and the positions that count.
    """
    if reduction == "sum":
        return sum_squared_error(first, second, mask) / first.shape[0]
    return mean_squared_error(first, second, mask)


def mean_squared_error(first: Tensor, second: Tensor, mask: Tensor | Mask | None = None) -> Tensor:
    """Return the mean squared difference of two tensors of one shape, a scalar.

    With a mask, the maps are ``(B, C, H, W)``, and the result is the mean over samples of each sample's mean.

    Args:
        first: any shape.
        second: the same shape.
        mask: booleans ``(B, 1, H, W)``, true where a position counts.
    """
    if mask is not None:
        return squared_error_per_sample(first, second, mask, reduction="mean").mean()
    # mean() and F.mse_loss would give a gradient of another layout than the maps', and batch norm would take ten times
    # as long.
    return sum_squared_error(first, second) / first.numel()


def sum_squared_error(first: Tensor, second: Tensor, mask: Tensor | Mask | None = None) -> Tensor:
    """Return the sum of the squared differences, a scalar; the tensors and the mask as above."""
    return _masked_difference(first, second, mask).square().sum()


def squared_error_per_sample(
    first: Tensor, second: Tensor, mask: Tensor | Mask | None = None, *, reduction: Reduction = "sum"
) -> Tensor:
    """Return each sample's squared difference, ``(..., B)``, of maps ``(..., B, C, H, W)``; the rest as above."""
    mask = None if mask is None else Mask.of(mask)
    squares = _masked_difference(first, second, mask).square()
    if reduction == "sum":
        return squares.sum(dim=(-3, -2, -1))
    return squares.mean(dim=(-3, -2, -1)) if mask is None else mask.mean(squares)


def _masked_difference(first: Tensor, second: Tensor, mask: Tensor | Mask | None) -> Tensor:
    """Return the difference, with zeros where the mask does not count."""
    difference = _difference(first, second)
    # Masked before squaring, so that the other positions reach no gradient either.
    return difference if mask is None else Mask.of(mask).applied(difference)


def _difference(first: Tensor, second: Tensor) -> Tensor:
    """Return the difference in float32 or wider; half precision beside float32 is not copied first."""
    wide = torch.promote_types(first.dtype, second.dtype) in (torch.float32, torch.float64)
    return (first if wide else to_float32(first)) - second


def mean_square(values: Tensor, mask: Mask | None = None) -> Tensor:
    """Return the mean square of values ``(..., C, H, W)``, a scalar; with a mask, the mean of the samples' means."""
    return values.square().mean() if mask is None else mask.mean(mask.applied(values).square()).mean()


def sum_scalars(scalars: list[Tensor]) -> Tensor:
    """Return the sum of at least one scalar, without the integer 0 that ``sum`` starts from."""
    total = scalars[0]
    for scalar in scalars[1:]:
        total = total + scalar
    return total


def scaled(value: Tensor, factor: float) -> Tensor:
    """Return the value times the factor; 1 needs no operation."""
    return value if type(factor) is float and factor == 1.0 else factor * value


def autocasting(device: str) -> bool:
    """Return whether autocast is on for a device type such as ``"cuda"``."""
    return device != "meta" and torch.is_autocast_enabled(device)


def cast_by_autocast(device: str) -> tuple[torch.dtype, ...]:
    """Return the dtypes that autocast casts to its own: float32 and its own. Float64 stays float64."""
    return torch.float32, torch.get_autocast_dtype(device)


def without_float16(device: str) -> AbstractContextManager[object]:
    """Return a context that turns float16 autocast off; bfloat16 autocast has float32's range and stays on.

    Args:
        device: the device type of the tensors, such as ``"cuda"``.
    """
    # Entered only if needed: the context would appear in an exported graph.
    narrow = autocasting(device) and torch.get_autocast_dtype(device) == torch.float16
    return without_autocast(device) if narrow else nullcontext()


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Return a context that turns autocast off, for results that need float32's digits; ``device`` as above."""
    return torch.autocast(device, enabled=False) if autocasting(device) else nullcontext()


def hinge_residual(prediction: Tensor, label: Tensor, threshold: float) -> Tensor:
    """Return DiMP's hinge-like residual: ``prediction - label`` on the target, ``max(prediction, 0)`` elsewhere.

    Bhat et al., "Learning Discriminative Model Prediction for Tracking", ICCV 2019, https://arxiv.org/abs/1904.07220.

    Args:
        prediction: scores of any shape.
        label: the same shape.
        threshold: labels below it are background.
    """
    return torch.where(label < threshold, prediction.clamp(min=0), prediction - label)
