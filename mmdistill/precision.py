"""Autocast: whether it is on, and leaving float16 where its range, 65504, is too small for what is computed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def autocasting(device: str) -> bool:
    """Return whether autocast is on for a device type such as ``"cuda"``."""
    return device != "meta" and torch.is_autocast_enabled(device)


def without_float16(device: str) -> AbstractContextManager[object]:
    """Return a context in which autocast to float16 is off; bfloat16, which has float32's range, stays.

    Args:
        device: the device type of the tensors, such as ``"cuda"``.
    """
    # Entered only where needed: an exported graph would show it.
    narrow = autocasting(device) and torch.get_autocast_dtype(device) == torch.float16
    return torch.autocast(device, enabled=False) if narrow else nullcontext()
