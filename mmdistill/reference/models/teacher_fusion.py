"""The teacher's fusion of a level: modality difference compensation (MDC), then feature re-selection (FRS).

CMD's teacher uses the fusion of MFNet (Zhang, Liu and Zhang, Image and Vision Computing 127:104547, 2022).

From the papers: MDC compensates each modality with its difference to the other and gives a first fused feature. FRS
weights the two unimodal features and the fused one per channel. Both work at levels 3 and 4. CMD's parameter totals fit
a bottleneck of fixed width 256: 12.356 M for C = 512, 1024 and 6.25 M for C = 128, 256.

Our choice, because no layer table was published: the kernel sizes, the gate on the difference, the inputs of the merge,
and the hidden width of the selection. The totals are met to 0.5 %.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from mmdistill.interaction import check_modalities
from mmdistill.pair import Pair


def _block(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class ModalityDifferenceCompensation(nn.Module):
    """MDC: compensates each modality with its difference to the other, then merges both into a first fused feature.

    Args:
        channels: channels C of either modality.
        width: channels D of the bottleneck.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleDict({name: _block(channels, width, 3) for name in Pair._fields})
        # No ReLU: a compensation may have either sign.
        self.compensate = nn.ModuleDict(
            {name: nn.Conv2d(width, width, 3, padding=1, bias=False) for name in Pair._fields}
        )
        self.gate = nn.Linear(width, width)
        self.merge = nn.Sequential(_block(3 * width, width, 1), _block(width, width, 3))

    def forward(self, pair: Pair[Tensor]) -> tuple[Pair[Tensor], Tensor]:
        """Return the compensated pair and the first fused feature, ``(B, D, H, W)``, of maps ``(B, C, H, W)``."""
        rgb, tir = self.reduce["rgb"](pair.rgb), self.reduce["tir"](pair.tir)
        difference = rgb - tir
        share = torch.sigmoid(self.gate(reduce(difference.abs(), "b c h w -> b c", "mean")))[..., None, None]
        rgb = rgb + share * self.compensate["rgb"](-difference)
        tir = tir + share * self.compensate["tir"](difference)
        return Pair(rgb, tir), self.merge(torch.cat([rgb, tir, rgb * tir], dim=1))


class FeatureReselection(nn.Module):
    """FRS: weights the two unimodal features and the fused one against each other, per channel.

    Args:
        channels: channels C of either modality and of the output.
        width: channels D of the bottleneck.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(width, channels, 1, bias=False)
        self.select = nn.Sequential(nn.Linear(3 * width, width // 2), nn.ReLU(), nn.Linear(width // 2, 3 * channels))

    def forward(self, pair: Pair[Tensor], compensated: Pair[Tensor], fused: Tensor) -> Tensor:
        """Return the channel-wise weighted sum of RGB, TIR and the expanded fused feature, ``(B, C, H, W)``."""
        pooled = reduce(torch.cat([*compensated, fused], dim=1), "b c h w -> b c", "mean")
        weights = rearrange(self.select(pooled), "b (source c) -> source b c 1 1", source=3).softmax(dim=0)
        selected: Tensor = weights[0] * pair.rgb + weights[1] * pair.tir + weights[2] * self.expand(fused)
        return selected


class TeacherFusion(nn.Module):
    """MDC and FRS of one level: fuses a pair of ``(B, C, H, W)`` into one ``(B, C, H, W)``.

    Args:
        channels: channels C.
        width: channels of the bottleneck; 256 in the published teacher.

    Raises:
        ShapeError: the pair's members are not maps of one shape.
    """

    def __init__(self, channels: int, width: int = 256) -> None:
        super().__init__()
        self.compensation = ModalityDifferenceCompensation(channels, width)
        self.reselection = FeatureReselection(channels, width)

    def forward(self, pair: Pair[Tensor]) -> Tensor:
        """Return the fused map ``(B, C, H, W)``."""
        pair = check_modalities("TeacherFusion", pair)
        compensated, fused = self.compensation(pair)
        selected: Tensor = self.reselection(pair, compensated, fused)
        return selected
