"""Copies of networks for inference: batch norms folded into the layer before them, weights cast for autocast."""

from __future__ import annotations

import copy
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from mmdistill.reference.models.iou_net import FoldedPooledLinear
from mmdistill.reference.models.tracker_network import TrackerNetwork


@runtime_checkable
class Foldable(Protocol):
    """A module that folds its own batch norm."""

    def fold(self) -> nn.Module:
        """Return an inference module that equals this one in eval mode."""


Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norms(network: Network) -> Network:
    """Return a copy in eval mode without batch norms; its outputs differ by rounding only.

    A batch norm is folded into the convolution or linear layer that its parent registers right before it;
    ``nn.Identity`` takes its place. A ``Foldable`` module is replaced by the result of its ``fold``. On the CPU,
    weights are stored channels last, which is faster. The copy's parameters are not trainable.

    Raises:
        ValueError: a batch norm has no layer before it, or no running statistics.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(network.modules()):
        _fold_children(module)
        for name, child in module.named_children():
            if isinstance(child, Foldable):
                setattr(module, name, child.fold())
    norms = [
        name or type(module).__name__ for name, module in network.named_modules() if isinstance(module, _BatchNorm)
    ]
    if norms:
        raise ValueError(f"fold_batch_norms: no convolution or linear layer before the batch norms {', '.join(norms)}")
    if all(parameter.device.type == "cpu" for parameter in network.parameters()):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _fold_children(parent: nn.Module) -> None:
    previous_name, previous = "", None
    for name, child in list(parent.named_children()):
        fused = _fuse(previous, child)
        if fused is not None:
            setattr(parent, previous_name, fused)
            setattr(parent, name, nn.Identity())
        previous_name, previous = name, child


def _fuse(layer: nn.Module | None, norm: nn.Module) -> nn.Module | None:
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None:
        return None
    if isinstance(layer, nn.Conv2d) and layer.out_channels == norm.num_features:
        return fuse_conv_bn_eval(layer, norm)
    if isinstance(layer, nn.Linear) and layer.out_features == norm.num_features:
        return fuse_linear_bn_eval(layer, norm)
    return None


def cast_for_autocast(network: TrackerNetwork, dtype: torch.dtype) -> TrackerNetwork:
    """Return a copy of a folded network whose weights have autocast's dtype, channels last.

    So autocast casts no weight in a frame.

    Outputs under autocast are the same bit for bit: fusions keep their weights, because they compute in the weights'
    dtype, and so do the target filter's initializer and optimizer, which run without autocast.
    """
    network = copy.deepcopy(network)
    extractors = [] if network.classifier is None else [network.classifier.extractor]
    for part in (network.trunks, network.iou_net, *extractors):
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                module.to(dtype)
            elif isinstance(module, nn.Linear | FoldedPooledLinear):
                module.weight.data = module.weight.data.to(dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the layout of half-precision kernels
    return network
