"""A network for inference: every batch norm folded into the convolution or linear layer before it."""

from __future__ import annotations

import copy
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval


@runtime_checkable
class ForInference(Protocol):
    """A module that has another form for inference."""

    def for_inference(self) -> nn.Module:
        """Return a module that computes the same in eval mode."""


Network = TypeVar("Network", bound=nn.Module)


def folded(network: Network) -> Network:
    """Return a copy in eval mode without batch norms, equal to the network's eval mode within rounding.

    A batch norm is folded into the convolution or linear layer that its parent registers right before it, as all of
    this package's networks do; ``nn.Identity`` takes its place. A module with a method ``for_inference`` is replaced
    by what that returns. On the CPU, convolutions keep their weights with the
    channels last, where they are faster. The copy's parameters are not trainable; the network stays as it is.

    Raises:
        ValueError: a batch norm has nothing before it to be folded into, or no running statistics.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(network.modules()):
        _fold_children(module)
        for name, child in module.named_children():
            if isinstance(child, ForInference):
                setattr(module, name, child.for_inference())
    left = [name or type(module).__name__ for name, module in network.named_modules() if isinstance(module, _BatchNorm)]
    if left:
        raise ValueError(f"folded: no convolution or linear layer to fold these batch norms into: {', '.join(left)}")
    if all(parameter.device.type == "cpu" for parameter in network.parameters()):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _fold_children(parent: nn.Module) -> None:
    before, layer = "", None
    for name, child in list(parent.named_children()):
        fused = _fused(layer, child)
        if fused is not None:
            setattr(parent, before, fused)
            setattr(parent, name, nn.Identity())
        before, layer = name, child


def _fused(layer: nn.Module | None, norm: nn.Module) -> nn.Module | None:
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None:
        return None
    if isinstance(layer, nn.Conv2d) and layer.out_channels == norm.num_features:
        return fuse_conv_bn_eval(layer, norm)
    if isinstance(layer, nn.Linear) and layer.out_features == norm.num_features:
        return fuse_linear_bn_eval(layer, norm)
    return None
