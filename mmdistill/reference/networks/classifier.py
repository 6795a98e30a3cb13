"""DiMP's classification branch: its features, and the target model that scores them."""

from __future__ import annotations

import math

from einops import rearrange
from torch import Tensor, nn

from mmdistill.correlation import correlate
from mmdistill.precision import without_autocast
from mmdistill.reductions import widen
from mmdistill.reference.networks.resnet import BasicBlock, Depth
from mmdistill.reference.networks.target_filter import FilterInitialiser, FilterOptimiser, InstanceNorm


class TargetClassifier(nn.Module):
    """Classification features, filter initialiser and filter optimiser.

    Under autocast the features are extracted in half precision; learning and scoring need all of float32.

    Args:
        in_channels: channels of the fused level 4.
        channels: channels of the classification features; 256 for ResNet-18, 512 for ResNet-50.
        depth: the trunk's depth: ResNet-18 has a residual block before the last convolution, ResNet-50 has not.
        filter_size: cells along the filter.
        label_sigma: the label's initial deviation in the optimiser, cells.
    """

    STRIDE = 16

    def __init__(self, in_channels: int, channels: int, depth: Depth, filter_size: int, label_sigma: float) -> None:
        super().__init__()
        block: list[nn.Module] = [BasicBlock(in_channels, in_channels)] if depth == 18 else []
        self.extractor = nn.Sequential(
            *block,
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            InstanceNorm(math.sqrt(1 / (channels * filter_size * filter_size))),
        )
        self.initialiser = FilterInitialiser(channels, filter_size, self.STRIDE)
        self.optimiser = FilterOptimiser(label_sigma=label_sigma, stride=self.STRIDE)

    def features(self, fused: Tensor) -> Tensor:
        """Return classification features ``(N, S, C', H, W)`` of fused level-4 maps ``(N, S, C, H, W)``."""
        frames = fused.shape[0]
        extracted = widen(self.extractor(fused.flatten(0, 1)))
        return rearrange(extracted, "(n s) c h w -> n s c h w", n=frames)

    def learn(self, features: Tensor, boxes: Tensor, iterations: int) -> Tensor:
        """Return the filter iterates ``(iterations + 1, S, C', h, w)``.

        Args:
            features: of the training frames, ``(N, S, C', H, W)``.
            boxes: the targets ``(N, S, 4)``, ``x y w h`` in crop pixels.
            iterations: optimiser steps.
        """
        with without_autocast(features.device.type):
            filters = self.initialiser(features, boxes)
            iterates: Tensor = self.optimiser(filters, features, boxes, iterations)
        return iterates

    def score(self, iterates: Tensor, features: Tensor) -> Tensor:
        """Return scores ``(I, M, S, H', W')`` of frames ``(M, S, C', H, W)`` by filters ``(I, S, C', h, w)``."""
        with without_autocast(features.device.type):
            return correlate(features, iterates)
