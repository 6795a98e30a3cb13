"""ResNet-18 and ResNet-50 up to ``layer3``, with torchvision's parameter names.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016, https://arxiv.org/abs/1512.03385.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from mmdistill.reference.models.config import Depth


class Level(NamedTuple):
    """A feature level of a trunk: the layer's name, its channels, and its stride in image pixels."""

    name: str
    channels: int
    stride: int


def _convolution(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., figure 5 left); the output has ``channels``."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _convolution(in_channels, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _convolution(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, channels, H / stride, W / stride)``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones (He et al., figure 5 right); the output has ``4 * channels``.

    The stride is on the 3x3 convolution, as in torchvision.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = _convolution(in_channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _convolution(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _convolution(channels, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, 4 * channels, H / stride, W / stride)``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(_convolution(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


BLOCKS: Mapping[Depth, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2)),
    50: (Bottleneck, (3, 4, 6)),
}


class ResNetTrunk(nn.Module):
    """The four levels of a ResNet that a DiMP tracker uses; ``layer4`` and ``fc`` are not built.

    Args:
        depth: 18 or 50.
        width: channels of ``conv1``; 64 in the published networks.

    Attributes:
        levels: name, channels and stride of each level, shallow to deep.
    """

    def __init__(self, depth: Depth = 18, width: int = 64) -> None:
        super().__init__()
        block, counts = BLOCKS[depth]
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        levels = [Level("conv1", width, 2)]
        for number, count in enumerate(counts, start=1):
            out_channels = width * 2 ** (number - 1)
            stride = 1 if number == 1 else 2
            blocks = [block(channels, out_channels, stride)]
            channels = out_channels * block.expansion
            blocks += [block(channels, out_channels) for _ in range(count - 1)]
            self.add_module(f"layer{number}", nn.Sequential(OrderedDict((str(i), b) for i, b in enumerate(blocks))))
            levels.append(Level(f"layer{number}", channels, 2 ** (number + 1)))
        self.levels = tuple(levels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels per level, shallow to deep."""
        return tuple(level.channels for level in self.levels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of images ``(B, 3, H, W)``: four levels, shallow to deep, at strides 2, 4, 8, 16."""
        x = F.relu(self.bn1(self.conv1(images)))
        features = [x]
        x = F.max_pool2d(x, 3, 2, 1)
        for level in self.levels[1:]:
            x = self.get_submodule(level.name)(x)
            features.append(x)
        return features
