"""Warnings that point at the user's line, whatever wraps the loss."""

from __future__ import annotations

import sys
import warnings

WRAPPERS = ("torch", "accelerate", "lightning", "lightning_fabric", "pytorch_lightning")
"""Packages through which a loss is called: ``nn.Module``, ``DistributedDataParallel``, what Accelerate prepares."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line that called the loss or block: the first one of neither this library nor a wrapper.

    The reference tracker is a user of the losses. Python shows a warning once for each line, so a line of the user's
    own code gets its own.
    """
    frame, level = sys._getframe(1), 2
    while _inside(frame.f_globals.get("__name__", "")) and frame.f_back is not None:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _inside(module: str) -> bool:
    package, _, rest = module.partition(".")
    return package in WRAPPERS or (package == "mmdistill" and rest.partition(".")[0] != "reference")
