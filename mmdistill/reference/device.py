"""The device of a command, and uploads to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmdistill.toolkit.data_issues import DataError


def choose_device(name: str) -> torch.device:
    """Return a device by name.

    Args:
        name: ``"auto"`` (the GPU if there is one, else the CPU), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        DataError: the device is unknown or not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"--device: expected auto, cpu or an available GPU, got {name!r} ({reason})") from error
    return device


def check_compiler(where: str, device: torch.device, backend: str = "inductor") -> None:
    """Refuse a machine on which ``torch.compile`` does not work; it compiles a small function.

    Args:
        where: the setting that asks for it, for the error.
        device: the device of the compiled code.
        backend: PyTorch's compiler.

    Raises:
        DataError: compilation fails.
    """
    try:
        torch.compile(torch.neg, backend=backend)(torch.ones(2, device=device))
    except Exception as error:  # every backend has errors of its own
        message = " ".join(str(error).split("\n")[:2]).strip() or type(error).__name__  # the second has the cause
        raise DataError(
            f"{where}: PyTorch can't compile here ({message}); install a C++ compiler, or leave it out"
        ) from error


def upload(values: Tensor | NDArray[Any], device: torch.device) -> Tensor:
    """Copy host values to a device, asynchronously on GPUs."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
