"""The MPSD block, CMD eq. 4-6."""

from __future__ import annotations

from typing import Literal

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from mmdistill import _checks
from mmdistill.fusion.gate import Gate, check_gate, gated_sum, modality_gate, position_scores
from mmdistill.fusion.paths import FusedPaths, check_fusion_dtype, check_fusion_input
from mmdistill.pair import Pair
from mmdistill.precision import without_float16


def fusion_paths(pair: Pair[Tensor], gate: Tensor) -> Tensor:
    """Return the three paths ``(3, B, C, H, W)`` of CMD eq. 4 and 5: gated sum, product, difference.

    Args:
        pair: two maps ``(B, C, H, W)``.
        gate: ``(B, 2, H, W)``, the share of RGB and of TIR at each position.
    """
    rgb, tir = pair
    return torch.stack([gated_sum(pair, gate), rgb * tir, rgb - tir])


def weighted_paths(paths: Tensor, weights: Tensor) -> Tensor:
    """Return the paths' weighted sum ``(B, C, H, W)``, CMD eq. 6.

    Args:
        paths: ``(P, B, C, H, W)``.
        weights: ``(B, P)``, or ``(B, P, C)``.
    """
    axes = "b p" if weights.ndim == 2 else "b p c"
    return einsum(paths, weights, f"p b c h w, {axes} -> b c h w")


class MPSDFusion(nn.Module):
    """Multi-Path Selection fusion of one level, CMD eq. 4-6; 4C + 3C^2 + 4C + 5 parameters.

    Three paths (spatially gated sum, product, difference) are weighed by a small network that looks at the
    global maximum of each and are summed. Under float16 autocast they stay in the parameters' type, float32,
    because the product of two features overflows from 256 on.

    Args:
        channels: channels C of either modality, and of the fused map.
        gate: ``"softmax"`` over the two modalities (the text), or ``"sigmoid"`` (the formula's symbol).
        weighting: ``"path"``, one weight per path and sample, or ``"channel"``, one per channel as well.

    Raises:
        ShapeError: the pair's members are not maps of one shape with C channels, of the parameters' number type
            (under autocast: float32 or autocast's own).

    Example:
        >>> import torch
        >>> from mmdistill import MPSDFusion, Pair
        >>> fused, paths, weights = MPSDFusion(8)(Pair(torch.ones(2, 8, 4, 6), torch.zeros(2, 8, 4, 6)))
        >>> tuple(fused.shape), tuple(paths.shape), tuple(weights.shape)
        ((2, 8, 4, 6), (3, 2, 8, 4, 6), (2, 3))
    """

    def __init__(
        self, channels: int, *, gate: Gate = "softmax", weighting: Literal["path", "channel"] = "path"
    ) -> None:
        super().__init__()
        channels = _checks.channels("MPSDFusion", "channels", channels)
        check_gate("MPSDFusion", gate)
        _checks.one_of("MPSDFusion", "weighting", weighting, ("path", "channel"))
        self.channels, self.gate, self.weighting = channels, gate, weighting
        self.gate_convolution = nn.Conv2d(2 * channels, 2, 1)
        self.path_weights = nn.Sequential(
            nn.Linear(3 * channels, channels),
            nn.ReLU(),
            nn.Linear(channels, 3 if weighting == "path" else 3 * channels),
        )

    def forward(self, pair: Pair[Tensor]) -> FusedPaths:
        """Return the fused map, its paths and their weights."""
        pair = check_fusion_input("MPSDFusion", pair, self.channels, self.gate_convolution.weight)
        check_fusion_dtype("MPSDFusion", pair, self.gate_convolution.weight)
        with without_float16(pair[0].device.type):
            pair = Pair(*(member.to(self.gate_convolution.weight.dtype) for member in pair))
            gate = modality_gate(position_scores(self.gate_convolution, pair), self.gate)
            paths = fusion_paths(pair, gate)
            weights = self._weigh(paths)
            return FusedPaths(weighted_paths(paths, weights), paths, weights)

    def _weigh(self, paths: Tensor) -> Tensor:
        """Return each path's share, softmax over the paths."""
        scores: Tensor = self.path_weights(rearrange(paths.amax(dim=(-2, -1)), "p b c -> b (p c)"))
        if self.weighting == "channel":
            scores = rearrange(scores, "b (p c) -> b p c", p=3)
        return scores.softmax(dim=1)
