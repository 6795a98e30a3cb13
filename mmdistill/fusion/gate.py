"""Weighing the modalities against each other, by position or by channel."""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from mmdistill import _checks
from mmdistill.pair import Pair

Gate = Literal["softmax", "sigmoid"]
"""How scores become shares: ``"softmax"`` over the two modalities (they add to one), or ``"sigmoid"`` of each."""


def modality_gate(scores: Tensor, gate: Gate = "softmax") -> Tensor:
    """Return the share of RGB and of TIR from their scores, both ``(B, 2, ...)``."""
    return scores.softmax(dim=1) if gate == "softmax" else scores.sigmoid()


def gated_sum(pair: Pair[Tensor], gate: Tensor) -> Tensor:
    """Return ``rgb * gate of rgb + tir * gate of tir``, ``(B, C, H, W)``.

    Args:
        pair: two maps ``(B, C, H, W)``.
        gate: the share of RGB and of TIR: ``(B, 2, H, W)`` at each position, or ``(B, 2, C)`` in each channel.
    """
    rgb, tir = pair
    axes = "b m c -> b m c 1 1" if gate.ndim == 3 else "b m h w -> b m 1 h w"
    shares = rearrange(gate, axes)
    return rgb * shares[:, 0] + tir * shares[:, 1]


def position_scores(convolution: nn.Conv2d, pair: Pair[Tensor]) -> Tensor:
    """Return a 1x1 convolution of both maps side by side on the channel axis.

    Each map meets its half of the weight: laying them side by side takes as long as this small convolution itself.

    Args:
        convolution: from 2C channels.
        pair: two maps ``(B, C, H, W)``.
    """
    rgb, tir = pair
    # Flattened, so that the weight's gradient is contiguous as the weight is, whatever the layout of the maps.
    weight_rgb, weight_tir = (half[..., None, None] for half in convolution.weight.flatten(1).chunk(2, dim=1))
    return F.conv2d(rgb, weight_rgb, convolution.bias) + F.conv2d(tir, weight_tir)


def check_gate(where: str, gate: Gate) -> None:
    """Refuse a gate that is none."""
    _checks.one_of(where, "gate", gate, get_args(Gate))
