"""Mean squared errors, reduced in float32 at least: half precision in, no overflow out."""

from __future__ import annotations

import torch
from torch import Tensor


def widen(values: Tensor) -> Tensor:
    """Return the values in float32, or as they are where they are wider."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def mean_squared_error(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean over all elements of the squared difference, a scalar; shapes are equal."""
    difference = widen(first) - widen(second)
    # No mean(): its gradient is laid out anew, not as the maps are, and a batch norm then takes ten times as long.
    return difference.square().sum() / difference.numel()


def mean_squared_error_per_sample(first: Tensor, second: Tensor) -> Tensor:
    """Return ``(..., B)`` from maps ``(..., B, C, H, W)``: the mean over each sample's own elements."""
    return (widen(first) - widen(second)).square().mean(dim=(-3, -2, -1))
