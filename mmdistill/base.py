"""The base class of all losses: optimizer groups, and a warning for parameters that no optimizer changes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmdistill._checks.arguments import check_number
from mmdistill._execution import can_read_values
from mmdistill.errors import UnchangedParametersWarning, warn

MAX_UNCHANGED_CALLS = 100
"""Training calls after which a loss's parameters must have changed."""


class DistillationLoss(nn.Module):
    """A loss, with the optimizer groups of its own parameters: those that are trained with the student."""

    def __init__(self) -> None:
        super().__init__()
        self._watch = ParameterWatch()

    def param_groups(self, lr: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Return the loss's own trainable parameters as groups for any PyTorch optimizer.

        Weights of convolutions are in one group, biases and the parameters of norms in another without weight decay.
        Give the groups to the optimizer together with the student's, before a scheduler is made. A loss without
        trainable parameters has no group.

        Args:
            lr: learning rate of both groups, at least 0.
            weight_decay: of the convolutions' weights, at least 0.

        Raises:
            ValueError: ``lr`` or ``weight_decay`` is negative or no number.

        Example:
            >>> import torch
            >>> from mmdistill.losses import FitNetsLoss
            >>> student, loss = torch.nn.Conv2d(3, 8, 3), FitNetsLoss((8,), (32,))
            >>> groups = [{"params": student.parameters(), "lr": 1e-4}, *loss.param_groups(lr=1e-3, weight_decay=1e-4)]
            >>> [(group["lr"], group["weight_decay"]) for group in torch.optim.SGD(groups).param_groups]
            [(0.0001, 0), (0.001, 0.0001), (0.001, 0.0)]
        """
        name = type(self).__name__
        lr = check_number(name, "lr", lr, low=0)
        weight_decay = check_number(name, "weight_decay", weight_decay, low=0)
        trained = trainable(self)
        decayed = [parameter for parameter in trained if parameter.ndim > 1]
        others = [parameter for parameter in trained if parameter.ndim <= 1]
        groups = ((decayed, weight_decay), (others, 0.0))
        return [{"params": params, "lr": lr, "weight_decay": decay} for params, decay in groups if params]

    def watch_parameters(self) -> None:
        """Count a training call of ``forward``; warn once if no parameter changed in ``MAX_UNCHANGED_CALLS``."""
        if torch.compiler.is_compiling() or not self._watch.on or not self.training or not torch.is_grad_enabled():
            return
        self._watch.count(self)


class ParameterWatch:
    """Counts a loss's training calls, and compares its parameters at the second and at the last of them.

    Copies and pickles start anew: a copy's parameters are other ones.
    """

    def __init__(self) -> None:
        self.on = True
        self.calls = 0
        self.first: tuple[list[int], list[float]] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return ParameterWatch, ()

    def count(self, loss: nn.Module) -> None:
        """Count one call of this loss."""
        if 1 < self.calls < MAX_UNCHANGED_CALLS - 1:
            self.calls += 1
            return
        parameters = trainable(loss)
        if not parameters or not can_read_values(parameters):
            return
        self.calls += 1
        if self.calls == 1:  # a loss that is tried out once reads nothing of a GPU
            for part in loss.modules():
                if isinstance(part, DistillationLoss) and part is not loss:
                    part._watch.on = False  # the whole speaks for its parts
            return
        if self.calls < MAX_UNCHANGED_CALLS:
            self.first = _state(parameters)
            return
        self.on = False
        if _have_gradients(loss, parameters) and _state(parameters) == self.first:
            message = (
                f"{type(loss).__name__}: none of its {len(parameters)} parameters changed in {self.calls} training "
                "calls; give them to the optimizer: loss.param_groups(lr)"
            )
            warn(message, UnchangedParametersWarning)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that an optimizer may change, each once.

    What ``torch.func.functional_call`` and DataParallel put in their places is no parameter.
    """
    return [each for each in module.parameters() if isinstance(each, nn.Parameter) and each.requires_grad]


def _have_gradients(loss: nn.Module, parameters: list[nn.Parameter]) -> bool:
    """Whether ``backward`` came to the parameters, and is not just tried out or timed."""
    # Of a loss given to fully_shard the gradients are at parameters that are not here in forward.
    return hasattr(loss, "unshard") or any(parameter.grad is not None for parameter in parameters)


def _state(parameters: list[nn.Parameter]) -> tuple[list[int], list[float]]:
    """Return the parameters' versions, and a sum over each one's values.

    A step of an optimizer changes versions or values. With a learning rate of 0 it changes versions alone. Fused
    optimizers change values alone; so does FSDP, which gathers the values anew for each call.
    """
    # On the processor: not every device has float64.
    sums = [float(_local(each).detach().cpu().sum(dtype=torch.float64)) for each in parameters]
    return [each._version for each in parameters], sums


def _local(parameter: Tensor) -> Tensor:
    """Return the part of a sharded parameter that this process holds, without communication."""
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter
