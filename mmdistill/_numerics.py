"""Mean squared errors, reduced in float32 at least: half precision in, no overflow out.

Autocast: whether it is on, and leaving it where its range or its digits are too few for what is computed.

How far scores are from their label: the residual that is neither loss's own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from mmdistill._masks import Mask


def to_float32(values: Tensor) -> Tensor:
    """Return the values in float32, or as they are where they are wider."""
    return values if values.dtype in (torch.float32, torch.float64) else values.to(torch.float32)


def mean_squared_error(first: Tensor, second: Tensor, mask: Tensor | Mask | None = None) -> Tensor:
    """Return the mean over all elements of the squared difference, a scalar; shapes are equal.

    With a mask ``(B, 1, H, W)`` of the positions that count, of maps ``(B, C, H, W)``: the mean of the samples' means.
    """
    if mask is not None:
        return mean_squared_error_per_sample(first, second, mask).mean()
    difference = to_float32(first) - to_float32(second)
    # No mean(): its gradient is laid out anew, not as the maps are, and a batch norm then takes ten times as long.
    return difference.square().sum() / difference.numel()


def mean_squared_error_per_sample(first: Tensor, second: Tensor, mask: Tensor | Mask | None = None) -> Tensor:
    """Return ``(..., B)`` from maps ``(..., B, C, H, W)``: the mean over each sample's own elements that count."""
    difference = to_float32(first) - to_float32(second)
    if mask is None:
        return difference.square().mean(dim=(-3, -2, -1))
    mask = Mask.of(mask)
    # Masked before it is squared, so that what stands at the other positions reaches no gradient either.
    return mask.mean(mask.applied(difference).square())


def mean_square(values: Tensor, mask: Mask | None = None) -> Tensor:
    """Return the mean square of values ``(..., C, H, W)``, or of each sample's that count, a scalar."""
    return values.square().mean() if mask is None else mask.mean(mask.applied(values).square()).mean()


def autocasting(device: str) -> bool:
    """Return whether autocast is on for a device type such as ``"cuda"``."""
    return device != "meta" and torch.is_autocast_enabled(device)


def cast_by_autocast(device: str) -> tuple[torch.dtype, ...]:
    """Return the number types that autocast casts to its own: float32 and its own; float64 stays float64."""
    return torch.float32, torch.get_autocast_dtype(device)


def without_float16(device: str) -> AbstractContextManager[object]:
    """Return a context in which autocast to float16 is off; bfloat16, which has float32's range, stays.

    Args:
        device: the device type of the tensors, such as ``"cuda"``.
    """
    # Entered only where needed: an exported graph would show it.
    narrow = autocasting(device) and torch.get_autocast_dtype(device) == torch.float16
    return without_autocast(device) if narrow else nullcontext()


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Return a context in which autocast is off, for what needs float32's digits; ``device`` as above."""
    return torch.autocast(device, enabled=False) if autocasting(device) else nullcontext()


def hinge_residual(prediction: Tensor, label: Tensor, threshold: float) -> Tensor:
    """Return DiMP's hinge-like residual: where the label is below the threshold only scores above 0 count.

    Bhat et al., DiMP, ICCV 2019: ``prediction - label`` on the target, ``max(prediction, 0)`` elsewhere.
    """
    return torch.where(label < threshold, prediction.clamp(min=0), prediction - label)
