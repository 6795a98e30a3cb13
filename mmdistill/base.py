"""The base class of all losses: optimizer groups, and a warning for parameters that no optimizer changes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmdistill._checks.arguments import check_number
from mmdistill._execution import can_read_values
from mmdistill.errors import UnchangedParametersWarning, warn

MAX_UNCHANGED_CALLS = 100
"""Number of training calls after which a loss's parameters must have changed."""


class DistillationLoss(nn.Module):
    """A loss with optimizer groups for its own parameters, which are trained with the student."""

    def __init__(self) -> None:
        super().__init__()
        self._watch = ParameterWatch()

    def param_groups(self, lr: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Return the loss's trainable parameters as parameter groups for a PyTorch optimizer.

        One group has the weights of convolutions, the other has biases and norms, without weight decay. Pass the groups
        to the optimizer along with the student's, before you create a scheduler. A loss without trainable parameters
        has no group.

        Args:
            lr: learning rate of both groups, at least 0.
            weight_decay: weight decay of the first group, at least 0.

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
        parameters = trainable(self)
        decayed = [parameter for parameter in parameters if parameter.ndim > 1]
        others = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups = ((decayed, weight_decay), (others, 0.0))
        return [{"params": params, "lr": lr, "weight_decay": decay} for params, decay in groups if params]

    def watch_parameters(self) -> None:
        """Count a training call of ``forward``; warn once if no parameter changed in ``MAX_UNCHANGED_CALLS`` calls."""
        if torch.compiler.is_compiling() or not self._watch.on or not self.training or not torch.is_grad_enabled():
            return
        self._watch.count(self)


class ParameterWatch:
    """Counts a loss's training calls, and compares its parameters at the second and the last call.

    Copies and pickles count from 0, because a copy has parameters of its own.
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
        if self.calls == 1:  # nothing is read from a GPU for a loss that is called once
            for part in loss.modules():
                if isinstance(part, DistillationLoss) and part is not loss:
                    part._watch.on = False  # the combined loss watches its parts
            return
        if self.calls < MAX_UNCHANGED_CALLS:
            self.first = _state(parameters)
            return
        self.on = False
        if _have_gradients(loss, parameters) and _state(parameters) == self.first:
            message = (
                f"{type(loss).__name__}: none of its {len(parameters)} parameters changed in {self.calls} training "
                "calls; pass them to the optimizer: loss.param_groups(lr)"
            )
            warn(message, UnchangedParametersWarning)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that an optimizer may change, each once.

    Tensors that ``torch.func.functional_call`` or DataParallel put in their place are left out.
    """
    return [value for value in module.parameters() if isinstance(value, nn.Parameter) and value.requires_grad]


def _have_gradients(loss: nn.Module, parameters: list[nn.Parameter]) -> bool:
    """Return whether ``backward`` ran, so that the loss is not just called or timed."""
    # With fully_shard the gradients belong to parameters that are absent in forward.
    return hasattr(loss, "unshard") or any(parameter.grad is not None for parameter in parameters)


def _state(parameters: list[nn.Parameter]) -> tuple[list[int], list[float]]:
    """Return the parameters' versions and the sums of their values.

    An optimizer step changes at least one of them. With a learning rate of 0 only the versions change. With fused
    optimizers, and with FSDP, which gathers the values for each call, only the values change.
    """
    # On the CPU, because not every device has float64.
    sums = [float(_local(parameter).detach().cpu().sum(dtype=torch.float64)) for parameter in parameters]
    return [parameter._version for parameter in parameters], sums


def _local(parameter: Tensor) -> Tensor:
    """Return this process's part of a sharded parameter, without communication."""
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter
