"""ATOM's IoU-Net: the predicted IoU of boxes with the target, differentiable in the boxes.

Danelljan et al., ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019, section 3.1 and figure 3,
https://arxiv.org/abs/1811.07628. The idea of predicting IoU is from Jiang et al., ECCV 2018,
https://arxiv.org/abs/1807.11590.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from mmdistill.reference.models.prroi_pool import precise_roi_pool

STRIDES = (8, 16)
"""Crop pixels per cell of levels 3 and 4."""

REFERENCE_BINS = (3, 1)
TEST_BINS = (5, 3)
"""Bins along either axis of a box, on levels 3 and 4."""


class Modulation(NamedTuple):
    """The reference frame's modulation vectors of the target: ``(B, C, 1, 1)`` for level 3 and for level 4."""

    level3: Tensor
    level4: Tensor


class IoUFunction(Protocol):
    """The IoU of boxes in a test frame, for refinement."""

    def __call__(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the IoU ``(S, K)`` of boxes, scaled to -1 to 1, and its gradient ``(S, K, 4)``.

        Args:
            boxes: ``(S, K, 4)``, ``x y w h`` in crop pixels.
        """
        ...

    def gradient(self, boxes: Tensor) -> Tensor:
        """Return the gradient alone."""
        ...


class IoUFeatures(NamedTuple):
    """A test frame's features for IoU prediction, ``(B, C, H, W)`` at strides 8 and 16."""

    level3: Tensor
    level4: Tensor


def _block(in_channels: int, out_channels: int, kernel: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding), nn.BatchNorm2d(out_channels), nn.ReLU()
    )


class FoldedPooledLinear(nn.Module):
    """A ``PooledLinear`` with its batch norm folded and its weight ordered bin by bin, for inference.

    Args:
        weight: ``(bins * bins, C, out_channels)``.
        bias: ``(out_channels,)``.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(values, requires_grad=False) for values in (weight, bias))

    def forward(self, pooled: Tensor) -> Tensor:
        """Return ``(boxes, out_channels)`` from ``(boxes, C, bins, bins)``."""
        return F.relu(torch.addmm(self.bias, pooled.flatten(2).mT.flatten(1), self.weight.flatten(0, 1)))


class PooledLinear(nn.Module):
    """A linear layer over a pooled box, with batch norm and ReLU.

    Args:
        channels: channels C of a pooled box.
        bins: bins along either axis.
        out_channels: channels of the output.
    """

    def __init__(self, channels: int, bins: int, out_channels: int) -> None:
        super().__init__()
        self.bins = bins
        self.linear = nn.Linear(channels * bins * bins, out_channels)
        self.norm = nn.BatchNorm1d(out_channels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return ``(boxes, out_channels)`` from ``(boxes, C, bins, bins)``."""
        return F.relu(self.norm(self.linear(pooled.flatten(1))))

    def fold(self) -> FoldedPooledLinear:
        """Return an equal layer for inference, with copied weights; see ``folding.Foldable``."""
        linear, norm = self.linear, self.norm
        if isinstance(norm, nn.BatchNorm1d):
            linear = fuse_linear_bn_eval(linear, norm)
        weight = rearrange(linear.weight.detach(), "out (c bins) -> bins c out", bins=self.bins**2)
        return FoldedPooledLinear(weight.clone(memory_format=torch.contiguous_format), linear.bias.detach().clone())


def to_folded(block: PooledLinear | FoldedPooledLinear) -> FoldedPooledLinear:
    """Return a block with its batch norm folded; a block of a folded network is not copied."""
    return block if isinstance(block, FoldedPooledLinear) else block.fold()


class IoUNet(nn.Module):
    """IoU prediction network: the IoU of boxes on a test frame with the target of a reference frame.

    Args:
        in_channels: channels of levels 3 and 4 (ResNet ``layer2`` and ``layer3``).
        hidden: width of the inner layers; 256 in ATOM and DiMP.
        pooled: channels that are pooled and modulated; ``hidden`` if None.
    """

    def __init__(self, in_channels: tuple[int, int], hidden: int = 256, pooled: int | None = None) -> None:
        super().__init__()
        pooled = hidden if pooled is None else pooled
        shallow, deep = in_channels
        self.reference_level3 = _block(shallow, hidden // 2, 3, 1)
        self.reference_level4 = _block(deep, hidden, 3, 1)
        self.reference_pooled3 = _block(hidden // 2, hidden, 3, 0)  # 3x3 bins to one
        self.modulation3 = _block(2 * hidden, pooled, 1, 0)
        self.modulation4 = _block(2 * hidden, pooled, 1, 0)
        self.test_level3 = nn.Sequential(_block(shallow, hidden, 3, 1), _block(hidden, pooled, 3, 1))
        self.test_level4 = nn.Sequential(_block(deep, hidden, 3, 1), _block(hidden, pooled, 3, 1))
        self.box_level3 = PooledLinear(pooled, TEST_BINS[0], pooled)
        self.box_level4 = PooledLinear(pooled, TEST_BINS[1], pooled)
        self.predictor = nn.Linear(2 * pooled, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_in")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        # Predictions start near IoU 0.5 for features of any scale, instead of far outside -1 to 1.
        nn.init.normal_(self.predictor.weight, std=0.01)

    def modulate(self, level3: Tensor, level4: Tensor, boxes: Tensor) -> Modulation:
        """Return the modulation of a reference frame's target.

        Args:
            level3: ``(B, C3, H, W)`` at stride 8.
            level4: ``(B, C4, H / 2, W / 2)`` at stride 16.
            boxes: the target's box ``(B, 4)``, ``x y w h`` in crop pixels.
        """
        maps = (self.reference_level3(level3), self.reference_level4(level4))
        shallow, deep = (
            precise_roi_pool(x, boxes[:, None], bins, stride)[:, 0]
            for x, bins, stride in zip(maps, REFERENCE_BINS, STRIDES, strict=True)
        )
        joined = torch.cat([self.reference_pooled3(shallow), deep], dim=1)
        return Modulation(self.modulation3(joined), self.modulation4(joined))

    def features(self, level3: Tensor, level4: Tensor) -> IoUFeatures:
        """Return a test frame's features; levels as in ``modulate``."""
        return IoUFeatures(self.test_level3(level3), self.test_level4(level4))

    def predict(self, modulation: Modulation, features: IoUFeatures, boxes: Tensor) -> Tensor:
        """Return the predicted IoU ``(B, K)`` of boxes ``(B, K, 4)``, scaled to -1 to 1 as in training.

        Pooling is linear, so modulating the small pooled maps is enough.
        """
        inner = []
        blocks = (self.box_level3, self.box_level4)
        for x, vector, block, bins, stride in zip(features, modulation, blocks, TEST_BINS, STRIDES, strict=True):
            pooled = precise_roi_pool(x, boxes, bins, stride) * vector[:, None]
            inner.append(block(pooled.flatten(0, 1)))
        predicted: Tensor = self.predictor(torch.cat(inner, dim=1))
        return predicted.view(boxes.shape[:2])
