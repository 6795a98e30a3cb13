"""Spatial attention fusion, "SAF" of CMD Table 3.

Channel attention fusion, "CAF" of CMD Table 3.

Concatenation, the plain student's fusion.
"""

from __future__ import annotations

from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from mmdistill import _checks
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
    """Spatial attention fusion (SAF), CMD Table 3: the modalities' sum, gated at each position; 4C + 2 parameters.

    The paper says no more than "spatial-wise attention"; this is the first path of its own MPSD block, eq. 4 and 5.

    Args:
        channels: channels C of either modality, and of the fused map.
        gate: ``"softmax"`` over the two modalities, or ``"sigmoid"``.

    Raises:
        ShapeError: the pair's members are not maps of one shape with C channels, of the parameters' number type
            (under autocast: float32 or autocast's own).

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
        channels = _checks.channels("SpatialAttentionFusion", "channels", channels)
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
    """Channel attention fusion (CAF), CMD Table 3: the modalities' sum, gated in each channel.

    Known from the paper: it is "channel-wise attention". Ours, because no layer table was published: both maps'
    global means, FC 2C to C / reduction, ReLU, FC to 2C, softmax over the two modalities, after squeeze and
    excitation (Hu et al., CVPR 2018). At reduction 1 the hidden width is that of the MPSD block's weighing network,
    and the parameters, 4C^2 + 3C, come nearest to the 19.9 M of Table 3's student: 19.97 M.

    Args:
        channels: channels C of either modality, and of the fused map.
        reduction: how many times narrower than C the hidden layer is.

    Raises:
        ShapeError: the pair's members are not maps of one shape with C channels, of the parameters' number type
            (under autocast: float32 or autocast's own).
        ValueError: the reduction leaves no channel.

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
        channels = _checks.channels("ChannelAttentionFusion", "channels", channels)
        reduction = _checks.whole("ChannelAttentionFusion", "reduction", reduction, high=channels)
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
    """Concatenation and a 1x1 convolution with bias, the plain student's fusion (CMD figure 2); 2C^2 + C parameters.

    Args:
        channels: channels C of either modality, and of the fused map.

    Raises:
        ShapeError: the pair's members are not maps of one shape with C channels, of the parameters' number type
            (under autocast: float32 or autocast's own).

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
        channels = _checks.channels("ConcatFusion", "channels", channels)
        self.channels = channels
        self.convolution = Convolution(2 * channels, channels, 1)

    def forward(self, pair: Pair[Tensor]) -> FusedPaths:
        """Return the fused map as its only path."""
        pair = check_fusion_input("ConcatFusion", pair, self.channels, self.convolution.weight)
        check_fusion_dtype("ConcatFusion", pair, self.convolution.weight)
        return one_path(self.convolution(torch.cat(pair, dim=1)))
