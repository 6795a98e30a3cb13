"""The predicted IoU of boxes in windows, and its gradient with respect to the boxes, without autograd.

Box refinement in ATOM (https://arxiv.org/abs/1811.07628) climbs this gradient.

A box enters the IoU-Net only through the weights of cells in its bins (``prroi_pool.bin_weights``): a pooled value is
the sum over cells of row weight x column weight x feature. The gradient is taken at the weights, then carried to the
boxes: a weight's derivative with respect to a bin's edge is the hat function there.

The first layer after pooling is linear. It is applied once to the few cells that each bin can touch; a step of
refinement is then one small product. ``pooled_iou`` gives the same values for any boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdistill.reference.models.bin_windows import BinWindows, bin_windows, contains_boxes, window_features
from mmdistill.reference.models.iou_net import (
    STRIDES,
    TEST_BINS,
    FoldedPooledLinear,
    IoUNet,
    Modulation,
    to_folded,
)
from mmdistill.reference.models.prroi_pool import hat_integral


def level_windows(boxes: Tensor, margin: float, levels: Sequence[Tensor]) -> list[BinWindows] | None:
    """Return the windows of boxes ``(S, K, 4)`` on levels 3 and 4; None if the whole maps cost no more.

    Args:
        boxes: ``x y w h`` in crop pixels.
        margin: distance that boxes may move, crop pixels.
        levels: the test frame's levels 3 and 4.
    """
    windows = [
        bin_windows(boxes, margin, bins, stride, _map_size(level))
        for level, stride, bins in zip(levels, STRIDES, TEST_BINS, strict=True)
    ]
    useful = [window for window in windows if window is not None]
    return useful if len(useful) == len(windows) else None


def windows_contain(windows: Sequence[BinWindows], boxes: Tensor, levels: Sequence[Tensor]) -> bool:
    """Return whether boxes ``(S, K, 4)`` touch only cells in the windows."""
    return all(
        contains_boxes(window, boxes, stride, _map_size(level))
        for window, level, stride in zip(windows, levels, STRIDES, strict=True)
    )


def windowed_iou(
    iou_net: IoUNet, modulation: Modulation, levels: Sequence[Tensor], windows: Sequence[BinWindows]
) -> WindowedIoUFunction:
    """Return the IoU function of a test frame, for boxes in windows.

    Args:
        iou_net: in eval mode.
        modulation: of the reference frame, vectors ``(S, C, 1, 1)``.
        levels: the test frame's levels 3 and 4, ``(S, C, H, W)``.
        windows: of the levels.
    """
    convolutions = (iou_net.test_level3, iou_net.test_level4)
    blocks = (iou_net.box_level3, iou_net.box_level4)
    projected = [
        project_level(
            _modulate(window_features(convolution, level, window.hull), vector), to_folded(block), window, stride
        )
        for convolution, level, window, vector, block, stride in zip(
            convolutions, levels, windows, modulation, blocks, STRIDES, strict=True
        )
    ]
    return WindowedIoUFunction(projected, iou_net.predictor)


@dataclass(frozen=True)
class WindowedIoUFunction:
    """The IoU function of a test frame, for boxes in windows; see ``IoUFunction``.

    Attributes:
        levels: levels 3 and 4.
        predictor: the IoU-Net's last layer.
    """

    levels: Sequence[ProjectedLevel]
    predictor: nn.Linear

    def __call__(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """See ``IoUFunction``."""
        weights = self.predictor.weight[0].chunk(len(self.levels))
        iou: Tensor = self.predictor.bias
        gradient = torch.zeros_like(boxes)
        for level, weight in zip(self.levels, weights, strict=True):
            level_iou, level_gradient = level.evaluate(boxes, weight)
            iou, gradient = iou + level_iou, gradient + level_gradient
        return iou, gradient

    def gradient(self, boxes: Tensor) -> Tensor:
        """See ``IoUFunction``."""
        return self(boxes)[1]


@dataclass(frozen=True)
class ProjectedLevel:
    """A level whose cells passed the layer after pooling, per bin the cells in its window.

    Attributes:
        projected: ``(S, bins * bins * rows * columns, C')``.
        bias: of the layer, ``(C',)``.
        windows: the cells; boxes must touch no others.
        stride: crop pixels per cell.
    """

    projected: Tensor
    bias: Tensor
    windows: BinWindows
    stride: int

    def evaluate(self, boxes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return this level's summand of the IoU ``(S, K)`` and its gradient ``(S, K, 4)``.

        Args:
            boxes: ``(S, K, 4)``, ``x y w h`` in crop pixels.
            weight: the predictor's weight for this level, ``(C',)``.
        """
        weights = _BinWeights(boxes, self.windows.origin, self.windows.size, self.stride, self.projected.dtype)
        columns, rows = weights.columns[:, :, None, :, None], weights.rows[:, :, :, None, :, None]
        cells = rows * columns
        inner = cells.flatten(2) @ self.projected + self.bias
        at_cells = (_relu_gradient(inner, weight) @ self.projected.mT).view(cells.shape)
        at_columns = (at_cells * rows).sum(dim=(2, 4))
        at_rows = (at_cells * columns).sum(dim=(3, 5))
        return F.relu(inner) @ weight, weights.box_gradient(at_columns, at_rows)


def project_level(features: Tensor, block: FoldedPooledLinear, windows: BinWindows, stride: int) -> ProjectedLevel:
    """Apply the layer after pooling to the cells of every bin's window.

    Args:
        features: modulated, in the windows' hull: ``(S, rows, columns, C)``.
        block: the layer after pooling.
        windows: the cells that each bin can touch.
        stride: crop pixels per cell.
    """
    first = windows.origin - windows.hull.origin[..., None]
    columns, rows = (
        first[:, axis, :, None] + torch.arange(size, device=first.device) for axis, size in enumerate(windows.size)
    )
    sequence = torch.arange(len(features), device=features.device)[:, None, None, None, None]
    cells = features[sequence, rows[:, :, None, :, None], columns[:, None, :, None, :]]
    projected = torch.einsum("sbqc,bcd->sbqd", cells.flatten(3, 4).flatten(1, 2), block.weight)
    return ProjectedLevel(projected.flatten(1, 2), block.bias, windows, stride)


class _BinWeights:
    """The weights of cells in the boxes' bins along either axis, and their derivatives.

    Args:
        boxes: ``(S, K, 4)``, ``x y w h`` in crop pixels.
        origin: the first column and row of each bin's window, ``(S, 2, bins)``.
        size: numbers of columns and rows of a window.
        stride: crop pixels per cell.
        dtype: of the weights.

    Attributes:
        columns: ``(S, K, bins, columns)``.
        rows: ``(S, K, bins, rows)``.
    """

    def __init__(self, boxes: Tensor, origin: Tensor, size: tuple[int, int], stride: int, dtype: torch.dtype) -> None:
        bins = origin.shape[-1]
        start, extent = (boxes / stride)[..., None].chunk(2, dim=2)
        fractions = torch.linspace(0, 1, bins + 1, device=boxes.device, dtype=boxes.dtype)
        edges = torch.addcmul(start, extent, fractions)
        # Both ends of each bin at once, relative to its window's cells: (2, S, K, 2, bins, cells).
        ends = torch.stack([edges[..., :-1], edges[..., 1:]]) - origin[:, None]
        offsets = ends[..., None] - torch.arange(max(size), device=boxes.device, dtype=boxes.dtype)
        below, above = hat_integral(offsets)
        self._length = (extent / bins).clamp(min=torch.finfo(boxes.dtype).tiny)[..., None]
        self._weights = (above - below) / self._length
        self._hats = (1 - offsets.abs()).clamp_(min=0)
        self._fractions = fractions
        self._stride, self._size = stride, size
        weights = self._weights.to(dtype)
        self.columns, self.rows = weights[:, :, 0, :, : size[0]], weights[:, :, 1, :, : size[1]]

    def box_gradient(self, at_columns: Tensor, at_rows: Tensor) -> Tensor:
        """Return the gradient with respect to the boxes ``(S, K, 4)`` from that with respect to the weights."""
        at_weights = torch.zeros_like(self._weights)
        at_weights[:, :, 0, :, : self._size[0]] = at_columns
        at_weights[:, :, 1, :, : self._size[1]] = at_rows
        at_weights /= self._length
        # At the edges; a longer bin also means smaller weights.
        at_below, at_above = (at_weights * self._hats).sum(dim=-1)
        at_start = at_above - at_below
        before, after = self._fractions[:-1], self._fractions[1:]
        at_length = (at_weights * self._weights).sum(dim=-1) / len(before)
        at_extent = at_above * after - at_below * before - at_length
        return torch.cat([at_start.sum(dim=-1), at_extent.sum(dim=-1)], dim=-1) / self._stride


def _relu_gradient(inner: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of ``relu(inner) @ weight`` with respect to ``inner``."""
    return torch.where(inner > 0, weight, 0)


def _modulate(features: Tensor, vector: Tensor) -> Tensor:
    """Return modulated features ``(S, H, W, C)``. Pooling is linear, so one product serves all boxes and steps."""
    return (features * vector).permute(0, 2, 3, 1).contiguous()


def _map_size(level: Tensor) -> tuple[int, int]:
    """Return a map's columns and rows."""
    return level.shape[-1], level.shape[-2]
