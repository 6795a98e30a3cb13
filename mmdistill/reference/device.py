"""Which device a command runs on."""

from __future__ import annotations

import torch

from mmdistill.reference.errors import DataError


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
