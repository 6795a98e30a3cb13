"""Mean squared errors, reduced in float32 at least: half precision in, no overflow out."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdistill._masks import Mask


def widen(values: Tensor) -> Tensor:
    """Return the values in float32, or as they are where they are wider."""
    return values if values.dtype in (torch.float32, torch.float64) else values.to(torch.float32)


def mean_squared_error(first: Tensor, second: Tensor, mask: Tensor | Mask | None = None) -> Tensor:
    """Return the mean over all elements of the squared difference, a scalar; shapes are equal.

    With a mask ``(B, 1, H, W)`` of the positions that count, of maps ``(B, C, H, W)``: the mean of the samples' means.
    """
    if mask is not None:
        return mean_squared_error_per_sample(first, second, mask).mean()
    difference = widen(first) - widen(second)
    # No mean(): its gradient is laid out anew, not as the maps are, and a batch norm then takes ten times as long.
    return difference.square().sum() / difference.numel()


def mean_squared_error_per_sample(first: Tensor, second: Tensor, mask: Tensor | Mask | None = None) -> Tensor:
    """Return ``(..., B)`` from maps ``(..., B, C, H, W)``: the mean over each sample's own elements that count."""
    difference = widen(first) - widen(second)
    if mask is None:
        return difference.square().mean(dim=(-3, -2, -1))
    mask = Mask.of(mask)
    # Masked before it is squared, so that what stands at the other positions reaches no gradient either.
    return mask.mean(mask.applied(difference).square())


def mean_square(values: Tensor, mask: Mask | None = None) -> Tensor:
    """Return the mean square of values ``(..., C, H, W)``, or of each sample's that count, a scalar."""
    return values.square().mean() if mask is None else mask.mean(mask.applied(values).square()).mean()
