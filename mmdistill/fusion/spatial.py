"""Spatial attention fusion, "SAF" of CMD Table 3."""

from __future__ import annotations

from torch import Tensor, nn

from mmdistill import _checks
from mmdistill.fusion.gate import Gate, check_gate, gated_sum, modality_gate, position_scores
from mmdistill.fusion.paths import FusedPaths, check_fusion_dtype, check_fusion_input, one_path
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
