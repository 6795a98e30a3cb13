"""Leaving float16 where its range, 65504, is too small for what is computed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def without_float16(device: str) -> AbstractContextManager[object]:
    """Return a context in which autocast to float16 is off; bfloat16, which has float32's range, stays.

    Args:
        device: the device type of the tensors, such as ``"cuda"``.
    """
    # Entered only where needed: other devices know no autocast, and an exported graph would show it.
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    narrow = on and torch.get_autocast_dtype(device) == torch.float16
    return torch.autocast(device, enabled=False) if narrow else nullcontext()
