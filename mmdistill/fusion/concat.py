"""Concatenation, the plain student's fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmdistill import _checks
from mmdistill.alignment import Convolution
from mmdistill.fusion.paths import FusedPaths, check_fusion_dtype, check_fusion_input, one_path
from mmdistill.pair import Pair


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
