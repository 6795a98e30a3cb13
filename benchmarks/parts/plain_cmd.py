"""CMD written directly from the paper's equations in plain PyTorch: the reference for speed and memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdistill import FusedPaths, Pair


class AttentionBasedFusion(nn.Module):
    """ABF of Knowledge Review: concatenation with the resized deeper map, attention weights, convolution."""

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int, fuse: bool) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(in_channels, mid_channels, 1, bias=False), nn.BatchNorm2d(mid_channels))
        self.attention = nn.Conv2d(2 * mid_channels, 2, 1) if fuse else None
        self.expand = nn.Sequential(
            nn.Conv2d(mid_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels)
        )

    def forward(self, x: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the aligned map, and the map for the next shallower level."""
        x = self.reduce(x)
        if self.attention is not None:
            assert deeper is not None
            deeper = F.interpolate(deeper, x.shape[-2:], mode="nearest")
            share = torch.sigmoid(self.attention(torch.cat([x, deeper], dim=1)))
            x = x * share[:, 0:1] + deeper * share[:, 1:2]
        return self.expand(x), x


class Chain(nn.Module):
    """The ABFs of all levels, applied deepest first."""

    def __init__(self, student_channels: Sequence[int], teacher_channels: Sequence[int], mid_channels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            AttentionBasedFusion(ours, mid_channels, theirs, level < len(student_channels) - 1)
            for level, (ours, theirs) in enumerate(zip(student_channels, teacher_channels, strict=True))
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the aligned levels, shallow to deep."""
        aligned: list[Tensor] = []
        deeper: Tensor | None = None
        for level, x in zip(reversed(self.levels), reversed(features), strict=True):
            out, deeper = level(x, deeper)
            aligned.insert(0, out)
        return aligned


class PlainCMD(nn.Module):
    """Equations 1-3 and 7-14; its state dict fits the library's ``CMDLoss``."""

    def __init__(
        self, student_channels: Sequence[int], teacher_channels: Sequence[int], alpha: float = 1e-3, beta: float = 100.0
    ) -> None:
        super().__init__()
        chains = {name: Chain(student_channels, teacher_channels, student_channels[-1]) for name in ("rgb", "tir")}
        self.scfd = nn.ModuleDict({"chains": nn.ModuleDict(chains)})
        pairs = zip(student_channels[2:], teacher_channels[2:], strict=True)
        self.mpsd = nn.ModuleDict({"adaptors": nn.ModuleList(nn.Conv2d(ours, theirs, 1) for ours, theirs in pairs)})
        self.alpha, self.beta = alpha, beta

    def forward(
        self,
        student: Pair[list[Tensor]],
        teacher: Pair[list[Tensor]],
        fused: Sequence[FusedPaths],
        teacher_fused: Sequence[Tensor],
        response: Tensor,
        teacher_response: Tensor,
        gaussian: Tensor,
    ) -> Tensor:
        """Return the weighted total of eq. 14, without the tracker's own loss."""
        return self.alpha * (self.feature_loss(student, teacher) + self.fusion_loss(fused, teacher_fused)) + (
            self.beta * self.response_loss(response, teacher_response, gaussian)
        )

    def feature_loss(self, student: Pair[list[Tensor]], teacher: Pair[list[Tensor]]) -> Tensor:
        """Return eq. 1-3."""
        chains = cast(nn.ModuleDict, self.scfd["chains"])
        aligned_rgb, aligned_tir = chains["rgb"](student[0]), chains["tir"](student[1])
        loss = teacher[0][0].new_zeros(())
        for level, (rgb, tir) in enumerate(zip(*teacher, strict=True)):
            rgb, tir = rgb.detach(), tir.detach()
            if level < 3:
                target_rgb, target_tir = rgb * tir + (rgb - tir), rgb * tir + (tir - rgb)
            else:
                target_rgb = target_tir = rgb * tir + (rgb + tir)
            for aligned, target in ((aligned_rgb, target_rgb), (aligned_tir, target_tir)):
                loss = loss + F.mse_loss(aligned[level], target, reduction="sum") / len(target)
        return loss

    def fusion_loss(self, fused: Sequence[FusedPaths], teacher_fused: Sequence[Tensor]) -> Tensor:
        """Return eq. 7-11."""
        loss = teacher_fused[0].new_zeros(())
        adaptors = cast(nn.ModuleList, self.mpsd["adaptors"])
        for adaptor, (map_, paths, weights), target in zip(adaptors, fused, teacher_fused, strict=True):
            target = target.detach()
            loss = loss + F.mse_loss(adaptor(map_), target, reduction="sum") / len(target)
            errors = torch.stack([((adaptor(path) - target) ** 2).sum(dim=(1, 2, 3)) for path in paths]).detach()
            best, preferred = errors.argmin(dim=0), weights.argmax(dim=1)
            samples = torch.arange(len(best))
            error = errors[best, samples]
            loss = loss + (error * weights[samples, preferred] - error * weights[samples, best]).abs().mean()
        return loss

    def response_loss(self, response: Tensor, teacher_response: Tensor, gaussian: Tensor) -> Tensor:
        """Return eq. 12-13."""
        corrected = teacher_response.detach().clamp(min=0) + gaussian
        corrected = torch.where(corrected < 1, corrected, gaussian)
        return F.mse_loss(response * corrected, gaussian)
