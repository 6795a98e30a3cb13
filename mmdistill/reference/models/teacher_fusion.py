"""The teacher's fusion of a level: modality difference compensation, then feature re-selection.

After MFNet (Zhang, Liu and Zhang, Image and Vision Computing 127:104547, 2022), which CMD's teacher uses.

Known from the papers: MDC compensates each modality with its difference to the other and gives a first fused feature;
FRS weighs the two unimodal features and the fused one against each other, per channel; both stand at levels 3 and 4.
The parameter totals of CMD's tables fit a bottleneck of fixed width 256: 12.356 M for C = 512, 1024 and 6.25 M for
C = 128, 256. Ours, because no layer table was published: the kernels, the gate on the difference, what the merge sees,
and the hidden width of the selection; with them the totals are met to half a percent.
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
    """Compensate each modality with its difference to the other, then merge them into a first fused feature.

    Args:
        channels: channels C of either modality.
        width: channels D of the bottleneck.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleDict({name: _block(channels, width, 3) for name in Pair._fields})
        # Plain convolutions: what is missing may have either sign.
        self.compensate = nn.ModuleDict(
            {name: nn.Conv2d(width, width, 3, padding=1, bias=False) for name in Pair._fields}
        )
        self.gate = nn.Linear(width, width)
        self.merge = nn.Sequential(_block(3 * width, width, 1), _block(width, width, 3))

    def forward(self, pair: Pair[Tensor]) -> tuple[Pair[Tensor], Tensor]:
        """Return the compensated pair and the first fused feature, all ``(B, D, H, W)``, of ``(B, C, H, W)`` each."""
        rgb, tir = self.reduce["rgb"](pair.rgb), self.reduce["tir"](pair.tir)
        difference = rgb - tir
        share = torch.sigmoid(self.gate(reduce(difference.abs(), "b c h w -> b c", "mean")))[..., None, None]
        rgb = rgb + share * self.compensate["rgb"](-difference)
        tir = tir + share * self.compensate["tir"](difference)
        return Pair(rgb, tir), self.merge(torch.cat([rgb, tir, rgb * tir], dim=1))


class FeatureReselection(nn.Module):
    """Weigh the two unimodal features and the fused one against each other, per channel.

    Args:
        channels: channels C of either modality and of the output.
        width: channels D of the bottleneck.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(width, channels, 1, bias=False)
        self.select = nn.Sequential(nn.Linear(3 * width, width // 2), nn.ReLU(), nn.Linear(width // 2, 3 * channels))

    def forward(self, pair: Pair[Tensor], compensated: Pair[Tensor], fused: Tensor) -> Tensor:
        """Return ``(B, C, H, W)``: the channel-wise weighted sum of RGB, TIR and the expanded fused feature."""
        pooled = reduce(torch.cat([*compensated, fused], dim=1), "b c h w -> b c", "mean")
        weights = rearrange(self.select(pooled), "b (source c) -> source b c 1 1", source=3).softmax(dim=0)
        selected: Tensor = weights[0] * pair.rgb + weights[1] * pair.tir + weights[2] * self.expand(fused)
        return selected


class TeacherFusion(nn.Module):
    """MDC and FRS of one level: a pair of ``(B, C, H, W)`` in, one fused ``(B, C, H, W)`` out.

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
        """Return the fused map."""
        pair = check_modalities("TeacherFusion", pair)
        compensated, fused = self.compensation(pair)
        selected: Tensor = self.reselection(pair, compensated, fused)
        return selected
