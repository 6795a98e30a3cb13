"""What the losses raise and warn with: ShapeError, NotFiniteError, the warnings, and the line a warning names."""

from __future__ import annotations

import sys
import warnings

WRAPPERS = ("torch", "accelerate", "lightning", "lightning_fabric", "pytorch_lightning")
"""Packages through which a loss is called: ``nn.Module``, ``DistributedDataParallel``, what Accelerate prepares."""


class ShapeError(ValueError):
    """A tensor given to a loss or block has not the shape, number type, device or range its contract states.

    The message names the loss, the side (which argument), the axis, what was expected and what came.

    Attributes:
        where: the loss or block that was called.
        side: which input, such as ``"teacher rgb level 2"``.
        axis: which axis, such as ``"height"``; where no axis fits, what is wrong: ``"levels"``, ``"dtype"``,
            ``"device"``, ``"values"``.
        expected: what the contract asks for.
        got: what came.
    """

    def __init__(self, where: str, side: str, axis: str, *, expected: object, got: object) -> None:
        self.where, self.side, self.axis, self.expected, self.got = where, side, axis, expected, got
        # Not by super().__init__, in which torch.compile(fullgraph=True) would stop before it comes to the raise.
        self.args = (f"{where}: {side}: {axis}: expected {expected}, got {got}",)

    def __reduce__(self) -> tuple[object, ...]:
        """Go from process to process as it is: the message alone would not make another."""
        return _rebuilt, (type(self), self.where, self.side, self.axis, self.expected, self.got)


class NotFiniteError(ShapeError):
    """A tensor given to a loss holds NaN or infinity.

    A kind of ``ShapeError`` so that one ``except`` catches every refused input.
    """


class DeadTermWarning(UserWarning):
    """A loss was given inputs from which no student can learn, or one level or modality from which none can."""


class UnusedInputWarning(UserWarning):
    """A loss was given inputs that it does not use, because the part that would use them is left out.

    A warning and no error: a script for an ablation passes everything and leaves parts out. Such a script ignores it by
    ``warnings.filterwarnings("ignore", category=UnusedInputWarning)``.
    """


class UnchangedParametersWarning(UserWarning):
    """A loss's own parameters did not change while it trained a student."""


def _rebuilt(kind: type[ShapeError], where: str, side: str, axis: str, expected: object, got: object) -> ShapeError:
    return kind(where, side, axis, expected=expected, got=got)


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
