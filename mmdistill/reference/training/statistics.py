"""Batch norm where batches are small: what a tracker will compute must be what was trained."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def keep_statistics(network: nn.Module) -> None:
    """Let batch norm use its running statistics from now on, and no longer move them.

    In a small batch the proposals of a few targets are normalised together, so box estimation learns to tell them from
    each other; alone, by running statistics, a tracker's boxes then get other overlaps than training saw.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
