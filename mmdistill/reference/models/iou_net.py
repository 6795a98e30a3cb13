"""ATOM's IoU-Net: how well a box fits the target, predicted and differentiable in the box.

Danelljan et al., ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019, section 3.1 and figure 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from mmdistill.reference.models.prroi_pool import precise_roi_pool

STRIDES = (8, 16)
REFERENCE_BINS = (3, 1)
TEST_BINS = (5, 3)


class Modulation(NamedTuple):
    """What the reference frame says of the target: a vector ``(B, C, 1, 1)`` for level 3 and one for level 4."""

    level3: Tensor
    level4: Tensor


class IoUFeatures(NamedTuple):
    """A test frame's features for IoU prediction: ``(B, C, H, W)`` at strides 8 and 16."""

    level3: Tensor
    level4: Tensor


def _block(in_channels: int, out_channels: int, kernel: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding), nn.BatchNorm2d(out_channels), nn.ReLU()
    )


class BinLinear(nn.Module):
    """A ``PooledLinear`` for inference: batch norm folded, the weight laid out bin by bin.

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
    """A linear layer over a pooled box, with batch norm and ReLU."""

    def __init__(self, channels: int, bins: int, out_channels: int) -> None:
        super().__init__()
        self.bins = bins
        self.linear = nn.Linear(channels * bins * bins, out_channels)
        self.norm = nn.BatchNorm1d(out_channels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return ``(boxes, out_channels)`` from ``(boxes, C, bins, bins)``."""
        return F.relu(self.norm(self.linear(pooled.flatten(1))))

    def for_inference(self) -> BinLinear:
        """Return what eval mode computes, laid out for speed; its weights are a copy."""
        linear, norm = self.linear, self.norm
        if isinstance(norm, nn.BatchNorm1d):
            linear = fuse_linear_bn_eval(linear, norm)
        weight = rearrange(linear.weight.detach(), "out (c bins) -> bins c out", bins=self.bins**2)
        return BinLinear(weight.clone(memory_format=torch.contiguous_format), linear.bias.detach().clone())


class IoUNet(nn.Module):
    """Predicts the IoU of boxes on a test frame with the target of a reference frame.

    Args:
        in_channels: channels of levels 3 and 4 (ResNet ``layer2`` and ``layer3``).
        hidden: width of the inner layers; 256 in ATOM and DiMP.
        pooled: channels that are pooled and modulated; as ``hidden`` if not given.
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
        # Start near an overlap of one half whatever the features' scale, instead of far outside -1 to 1.
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
        """Return what is pooled on a test frame; levels as in :meth:`modulate`."""
        return IoUFeatures(self.test_level3(level3), self.test_level4(level4))

    def predict(self, modulation: Modulation, features: IoUFeatures, boxes: Tensor) -> Tensor:
        """Return the predicted IoU ``(B, K)`` of boxes ``(B, K, 4)``, on the scale -1 to 1 that training uses.

        Pooling is linear, so the boxes are pooled first and the small pooled maps modulated.
        """
        inner = []
        blocks = (self.box_level3, self.box_level4)
        for x, vector, block, bins, stride in zip(features, modulation, blocks, TEST_BINS, STRIDES, strict=True):
            pooled = precise_roi_pool(x, boxes, bins, stride) * vector[:, None]
            inner.append(block(pooled.flatten(0, 1)))
        predicted: Tensor = self.predictor(torch.cat(inner, dim=1))
        return predicted.view(boxes.shape[:2])
