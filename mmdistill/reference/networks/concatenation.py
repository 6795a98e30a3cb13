"""The plain student's fusion: concatenation and a 1x1 convolution (CMD figure 2, "Student")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmdistill.interaction import check_modalities
from mmdistill.pair import Pair


class Concatenation(nn.Module):
    """Both modalities side by side on the channel axis, brought back to C channels by a 1x1 convolution with bias.

    Raises:
        ShapeError: the pair's members are not maps of one shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, pair: Pair[Tensor]) -> Tensor:
        """Return the fused ``(B, C, H, W)``."""
        check_modalities("Concatenation", pair)
        fused: Tensor = self.convolution(torch.cat(pair, dim=1))
        return fused
