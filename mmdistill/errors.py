"""Errors and warnings of the losses, and the code line that a warning names."""

from __future__ import annotations

import sys
import warnings

WRAPPER_PACKAGES = ("torch", "accelerate", "lightning", "lightning_fabric", "pytorch_lightning")
"""Packages that call a loss for the user, as ``nn.Module`` and ``DistributedDataParallel`` do."""


class ShapeError(ValueError):
    """An input of a loss or block has a wrong shape, dtype, device or range.

    The message reads ``where: side: axis: expected ..., got ...``.

    Attributes:
        where: the loss or block that was called.
        side: the input, such as ``"teacher rgb level 2"``.
        axis: the axis, such as ``"height"``, or another property: ``"levels"``, ``"dtype"``, ``"device"``,
            ``"values"``.
        expected: the value that the contract asks for.
        got: the value of the input.
    """

    def __init__(self, where: str, side: str, axis: str, *, expected: object, got: object) -> None:
        self.where, self.side, self.axis, self.expected, self.got = where, side, axis, expected, got
        # Not super().__init__(), which torch.compile(fullgraph=True) cannot trace.
        self.args = (f"{where}: {side}: {axis}: expected {expected}, got {got}",)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle all attributes; by default the message alone would be passed to ``__init__``."""
        return _rebuild, (type(self), self.where, self.side, self.axis, self.expected, self.got)


class NotFiniteError(ShapeError):
    """An input of a loss holds NaN or infinity.

    It is a ``ShapeError``, so one ``except`` catches every refused input.
    """


class DeadTermWarning(UserWarning):
    """No student can learn from a loss, or from one of its levels or modalities, with these inputs."""


class UnusedInputWarning(UserWarning):
    """A loss got inputs for a part that is left out.

    Ablation scripts, which pass all inputs and leave parts out, may ignore it:
    ``warnings.filterwarnings("ignore", category=UnusedInputWarning)``.
    """


class UnchangedParametersWarning(UserWarning):
    """A loss's own parameters did not change in training."""


def _rebuild(kind: type[ShapeError], where: str, side: str, axis: str, expected: object, got: object) -> ShapeError:
    return kind(where, side, axis, expected=expected, got=got)


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line of the user's code that called the loss or block; Python shows a warning once per line.

    User code is the first code outside this library and the ``WRAPPER_PACKAGES``; ``mmdistill.reference`` is user code.
    """
    frame, level = sys._getframe(1), 2
    while _is_library(frame.f_globals.get("__name__", "")) and frame.f_back is not None:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_library(module: str) -> bool:
    package, _, rest = module.partition(".")
    return package in WRAPPER_PACKAGES or (package == "mmdistill" and rest.partition(".")[0] != "reference")
