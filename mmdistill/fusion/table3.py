"""The fusion blocks of CMD's Table 3 beside MPSD: spatial attention, channel attention and concatenation."""

from __future__ import annotations

from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from mmdistill._checks.arguments import check_channels, check_int
from mmdistill.abf import Convolution
from mmdistill.fusion.paths import (
    FusedPaths,
    Gate,
    check_fusion_dtype,
    check_fusion_input,
    check_gate,
    gated_sum,
    modality_gate,
    one_path,
    position_scores,
)
from mmdistill.pair import Pair


class SpatialAttentionFusion(nn.Module):
    """Spatial attention fusion (SAF), CMD Table 3: the modalities' sum, gated per position; 4C + 2 parameters.

    The paper only says "spatial-wise attention". This is the first path of its MPSD block, eq. 4 and 5.

    Zhang et al., "Efficient RGB-T Tracking via Cross-Modality Distillation", CVPR 2023,
    https://doi.org/10.1109/CVPR52729.2023.00523.

    Args:
        channels: channels C of either modality, and of the fused map.
        gate: ``"softmax"`` over the two modalities, or ``"sigmoid"``.

    Raises:
        ShapeError: the members are not maps of one shape with C channels and of the parameters' dtype (under autocast:
            float32 or autocast's own).

    Example:
        >>> import torch
        >>> from mmdistill import Pair
        >>> from mmdistill.fusion import SpatialAttentionFusion
        >>> fused, paths, weights = SpatialAttentionFusion(8)(Pair(torch.ones(2, 8, 4, 6), torch.zeros(2, 8, 4, 6)))
        >>> tuple(fused.shape), tuple(paths.shape), weights.tolist()
        ((2, 8, 4, 6), (1, 2, 8, 4, 6), [[1.0], [1.0]])
    """

    def __init__(self, channels: int, *, gate: Gate = "softmax") -> None:
        super().__init__()
        channels = check_channels("SpatialAttentionFusion", "channels", channels)
        check_gate("SpatialAttentionFusion", gate)
        self.channels, self.gate = channels, gate
        self.gate_convolution = nn.Conv2d(2 * channels, 2, 1)

    def forward(self, pair: Pair[Tensor]) -> FusedPaths:
        """Return the fused map as its only path."""
        pair = check_fusion_input("SpatialAttentionFusion", pair, self.channels, self.gate_convolution.weight)
        check_fusion_dtype("SpatialAttentionFusion", pair, self.gate_convolution.weight)
        gate = modality_gate(position_scores(self.gate_convolution, pair), self.gate)
        return one_path(gated_sum(pair, gate))


class ChannelAttentionFusion(nn.Module):
    """Channel attention fusion (CAF), CMD Table 3: the modalities' sum, gated per channel.

    The paper only says "channel-wise attention". The layers are ours, after squeeze and excitation: both maps' global
    means, FC 2C to C / reduction, ReLU, FC to 2C, softmax over the two modalities. With reduction 1 there are
    4C^2 + 3C parameters. That is nearest to Table 3's student of 19.9 M parameters: 19.97 M.

    Zhang et al., "Efficient RGB-T Tracking via Cross-Modality Distillation", CVPR 2023,
    https://doi.org/10.1109/CVPR52729.2023.00523.
    Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, https://arxiv.org/abs/1709.01507.

    Args:
        channels: channels C of either modality, and of the fused map.
        reduction: C divided by the width of the hidden layer.

    Raises:
        ShapeError: the members are not maps of one shape with C channels and of the parameters' dtype (under autocast:
            float32 or autocast's own).
        ValueError: a reduction above C.

    Example:
        >>> import torch
        >>> from mmdistill import Pair
        >>> from mmdistill.fusion import ChannelAttentionFusion
        >>> fused, paths, weights = ChannelAttentionFusion(8)(Pair(torch.ones(2, 8, 4, 6), torch.zeros(2, 8, 4, 6)))
        >>> tuple(fused.shape), tuple(paths.shape), weights.tolist()
        ((2, 8, 4, 6), (1, 2, 8, 4, 6), [[1.0], [1.0]])
    """

    def __init__(self, channels: int, *, reduction: int = 1) -> None:
        super().__init__()
        channels = check_channels("ChannelAttentionFusion", "channels", channels)
        reduction = check_int("ChannelAttentionFusion", "reduction", reduction, high=channels)
        self.channels, self.reduction = channels, reduction
        hidden = channels // reduction
        self.channel_scores = nn.Sequential(nn.Linear(2 * channels, hidden), nn.ReLU(), nn.Linear(hidden, 2 * channels))

    def forward(self, pair: Pair[Tensor]) -> FusedPaths:
        """Return the fused map as its only path."""
        weight = cast(nn.Linear, self.channel_scores[0]).weight
        pair = check_fusion_input("ChannelAttentionFusion", pair, self.channels, weight)
        check_fusion_dtype("ChannelAttentionFusion", pair, weight)
        means = torch.cat([member.mean(dim=(-2, -1)) for member in pair], dim=1)
        scores = rearrange(self.channel_scores(means), "b (m c) -> b m c", m=2)
        return one_path(gated_sum(pair, modality_gate(scores)))


class ConcatFusion(nn.Module):
    """Concatenation and a 1x1 convolution with bias, CMD's plain student (figure 2); 2C^2 + C parameters.

    Zhang et al., "Efficient RGB-T Tracking via Cross-Modality Distillation", CVPR 2023,
    https://doi.org/10.1109/CVPR52729.2023.00523.

    Args:
        channels: channels C of either modality, and of the fused map.

    Raises:
        ShapeError: the members are not maps of one shape with C channels and of the parameters' dtype (under autocast:
            float32 or autocast's own).

    Example:
        >>> import torch
        >>> from mmdistill import Pair
        >>> from mmdistill.fusion import ConcatFusion
        >>> fused, paths, weights = ConcatFusion(8)(Pair(torch.ones(2, 8, 4, 6), torch.zeros(2, 8, 4, 6)))
        >>> tuple(fused.shape), tuple(paths.shape), weights.tolist()
        ((2, 8, 4, 6), (1, 2, 8, 4, 6), [[1.0], [1.0]])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        channels = check_channels("ConcatFusion", "channels", channels)
        self.channels = channels
        self.convolution = Convolution(2 * channels, channels, 1)

    def forward(self, pair: Pair[Tensor]) -> FusedPaths:
        """Return the fused map as its only path."""
        pair = check_fusion_input("ConcatFusion", pair, self.channels, self.convolution.weight)
        check_fusion_dtype("ConcatFusion", pair, self.convolution.weight)
        return one_path(self.convolution(torch.cat(pair, dim=1)))
