"""Autocast: whether it is on, and leaving it where its range or its digits are too few for what is computed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


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
