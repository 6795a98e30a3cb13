"""Which device a command runs on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmdistill.toolkit.data_issues import DataError


def choose_device(name: str) -> torch.device:
    """Return the device of this name; ``"auto"`` is a GPU where there is one.

    Raises:
        DataError: no such device, or it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"--device: expected auto, cpu or a GPU that is there, got {name!r} ({reason})") from error
    return device


def upload(values: Tensor | NDArray[Any], device: torch.device) -> Tensor:
    """Return host values as a tensor on a device, without waiting for the device."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
