"""The predicted IoU of boxes and its gradient in the boxes, by hand: what refining boxes needs, without autograd.

Boxes enter the IoU-Net only by the shares that cells have in their bins (see ``roi_pooling``): what a bin holds is
the sum over cells of row share x column share x feature. So the gradient is first taken at the shares, then carried to
the boxes by the shares' derivatives: the integral up to a bin's edge changes with the edge by the hat function there.

There are two ways to the first layer after pooling, which is linear too. ``PooledLevel`` pools the map of channels,
then multiplies with the layer's weight, at every step. ``ProjectedLevel`` multiplies the few cells that each bin can
touch with the bin's weight once; a step is then one small product of shares and projected cells.

Where boxes can reach on a test frame, and the IoU features there, exactly as on the whole map.

The two 3x3 convolutions of a level see two cells beyond a window. Where those lie outside the map, the input of
either convolution is zero there, as its padding is on the whole map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdistill.reference.models.iou_net import BinLinear, PooledLinear
from mmdistill.reference.models.prroi_pool import hat_integral

HALO = 2
"""Cells around a window that its features depend on: one for each of the two convolutions."""


class Window(NamedTuple):
    """A rectangle of a map's cells, of one size, at each sequence's own place.

    Attributes:
        origin: its first column and row, ``(S, 2)``.
        size: how many columns and rows.
    """

    origin: Tensor
    size: tuple[int, int]


class Reach(NamedTuple):
    """The cells that each bin of boxes can touch: columns by the bin's column, rows by its row.

    Attributes:
        origin: the first column and the first row of either, ``(S, 2, bins)``.
        size: how many columns and rows a bin can touch.
        window: all of them together.
    """

    origin: Tensor
    size: tuple[int, int]
    window: Window


def reach_around(boxes: Tensor, margin: float, bins: int, stride: float, map_size: tuple[int, int]) -> Reach | None:
    """Return what boxes touch; None where the whole map costs no more than a window.

    Sizes are read from the boxes, so on a device other than the CPU this waits for them.

    Args:
        boxes: ``(S, K, 4)``, ``x y w h`` in crop pixels.
        margin: how much further than the boxes it goes, crop pixels.
        bins: along either axis of a box.
        stride: crop pixels per cell.
        map_size: columns and rows of the map.
    """
    limit = torch.tensor(map_size, device=boxes.device)
    low, high = _touched(boxes, margin, bins, stride, limit)
    size = (high - low).amax(dim=(0, 2)) + 1
    origin = low.minimum((limit - size)[:, None])
    first, last = origin.amin(dim=-1), origin.amax(dim=-1) + size - 1
    # Even, so that few sizes occur: a convolution is prepared anew for each.
    window_size = (((last - first).amax(dim=0) // 2 + 1) * 2).minimum(limit)
    window = Window(first.minimum(limit - window_size), _pair(window_size))
    if (window.size[0] + 2 * HALO) * (window.size[1] + 2 * HALO) >= map_size[0] * map_size[1]:
        return None
    return Reach(origin, _pair(size), window)


def covers(reach: Reach, boxes: Tensor, stride: float, map_size: tuple[int, int]) -> bool:
    """Say whether boxes ``(S, K, 4)`` touch no other cells; waits for the device. Arguments as in ``reach_around``."""
    limit = torch.tensor(map_size, device=boxes.device)
    low, high = _touched(boxes, 0.0, reach.origin.shape[-1], stride, limit)
    last = reach.origin + torch.tensor(reach.size, device=boxes.device)[:, None] - 1
    return bool(((low >= reach.origin) & (high <= last)).all())


def window_features(blocks: nn.Sequential, level: Tensor, window: Window) -> Tensor:
    """Return the features in a window, ``(S, C', rows, columns)``.

    Args:
        blocks: two blocks of a 3x3 convolution and layers that see each cell by itself.
        level: the whole map before them, ``(S, C, H, W)``.
        window: where.
    """
    first, second = blocks
    sequence = torch.arange(len(level), device=level.device)[:, None, None]
    columns, rows, inside = _cells(window, HALO, level)
    cut = level.permute(0, 2, 3, 1)[sequence, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    hidden = _without_padding(first, cut * inside)
    return _without_padding(second, hidden * inside[..., 1:-1, 1:-1])


def _touched(boxes: Tensor, margin: float, bins: int, stride: float, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last column and row that each bin of a sequence's boxes touches, ``(S, 2, bins)``.

    A bin touches the cells from the last one at or before its start to the first one at or after its end. Boxes that
    are no numbers touch the first cell.
    """
    fractions = torch.linspace(0, 1, bins + 1, device=boxes.device, dtype=boxes.dtype)
    edges = torch.addcmul(boxes[..., :2, None], boxes[..., 2:, None], fractions)
    low, high = ((edges[..., :-1] - margin) / stride).floor(), ((edges[..., 1:] + margin) / stride).ceil()
    last = limit[:, None] - 1
    low, high = (cells.nan_to_num().clamp(min=0).minimum(last) for cells in (low, high))
    return low.amin(dim=1).long(), high.amax(dim=1).long()


def _cells(window: Window, halo: int, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a window's columns ``(S, w)`` and rows ``(S, h)``, kept in the map, and 1 where they are in it, else 0.

    The last is ``(S, 1, h, w)``; w and h count the halo on both sides.
    """
    kept, inside = [], []
    for axis, (size, limit) in enumerate(zip(window.size, (level.shape[-1], level.shape[-2]), strict=True)):
        cells = window.origin[:, axis, None] + torch.arange(-halo, size + halo, device=level.device)
        kept.append(cells.clamp(0, limit - 1))
        inside.append((cells == kept[-1]).to(level.dtype))
    return kept[0], kept[1], inside[1][:, None, :, None] * inside[0][:, None, None, :]


def _without_padding(block: nn.Module, x: Tensor) -> Tensor:
    convolution, *rest = block.children()
    assert isinstance(convolution, nn.Conv2d)
    x = F.conv2d(x, convolution.weight, convolution.bias)
    for layer in rest:
        x = layer(x)
    return x


def _pair(size: Tensor) -> tuple[int, int]:
    columns, rows = size.tolist()
    return columns, rows


class BoxLevel(Protocol):
    """One level of a test frame, ready to be asked about boxes."""

    def ask(self, boxes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return this level's part of the IoU ``(S, K)`` and its gradient ``(S, K, 4)``.

        Args:
            boxes: ``(S, K, 4)``, ``x y w h`` in crop pixels.
            weight: that of the predictor for this level's inner layer, ``(C',)``.
        """


def iou_and_gradient(levels: Sequence[BoxLevel], predictor: torch.nn.Linear, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the predicted IoU ``(S, K)`` as ``IoUNet.predict`` does, and its gradient in the boxes ``(S, K, 4)``.

    Args:
        levels: levels 3 and 4.
        predictor: the IoU-Net's last layer.
        boxes: ``(S, K, 4)``, ``x y w h`` in crop pixels.
    """
    weights = predictor.weight[0].chunk(len(levels))
    iou: Tensor = predictor.bias
    gradient = torch.zeros_like(boxes)
    for level, weight in zip(levels, weights, strict=True):
        part, at_boxes = level.ask(boxes, weight)
        iou, gradient = iou + part, gradient + at_boxes
    return iou, gradient


def for_inference(block: PooledLinear | BinLinear) -> BinLinear:
    """Return a block laid out for inference; without a copy if the network is folded."""
    return block if isinstance(block, BinLinear) else block.for_inference()


@dataclass(frozen=True)
class PooledLevel:
    """A level whose whole map is pooled.

    Attributes:
        features: modulated, ``(S, H, W, C)``.
        block: the layer after pooling.
        stride: crop pixels per cell.
        bins: along either axis of a box.
    """

    features: Tensor
    block: BinLinear
    stride: int
    bins: int

    def ask(self, boxes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`BoxLevel`."""
        sequences, height, width, channels = self.features.shape
        origin = boxes.new_zeros(1, 2, self.bins)
        shares = _Shares(boxes, origin, (width, height), self.stride, self.features.dtype)
        columns, rows = shares.columns[:, :, None], shares.rows
        along_rows = self.features.flatten(2)
        in_rows = (rows.flatten(1, 2) @ along_rows).view(sequences, -1, self.bins, width, channels)
        pooled = columns @ in_rows
        linear = self.block.weight.flatten(0, 1)
        inner = pooled.flatten(2) @ linear + self.block.bias
        at_pooled = (_relu_slope(inner, weight) @ linear.mT).view(pooled.shape)
        at_in_rows = (columns.mT @ at_pooled).flatten(1, 2).flatten(2)
        at_rows = (at_in_rows @ along_rows.mT).view(rows.shape)
        at_columns = (at_pooled @ in_rows.mT).sum(dim=2)
        return F.relu(inner) @ weight, shares.at_boxes(at_columns, at_rows)


@dataclass(frozen=True)
class ProjectedLevel:
    """A level whose cells went through the layer after pooling, for each bin those that it can touch.

    Attributes:
        projected: ``(S, bins * bins * rows * columns, C')``.
        bias: of the layer, ``(C',)``.
        reach: which cells they are; boxes must touch no others.
        stride: crop pixels per cell.
    """

    projected: Tensor
    bias: Tensor
    reach: Reach
    stride: int

    def ask(self, boxes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`BoxLevel`."""
        shares = _Shares(boxes, self.reach.origin, self.reach.size, self.stride, self.projected.dtype)
        columns, rows = shares.columns[:, :, None, :, None], shares.rows[:, :, :, None, :, None]
        cells = rows * columns
        inner = cells.flatten(2) @ self.projected + self.bias
        at_cells = (_relu_slope(inner, weight) @ self.projected.mT).view(cells.shape)
        at_columns = (at_cells * rows).sum(dim=(2, 4))
        at_rows = (at_cells * columns).sum(dim=(3, 5))
        return F.relu(inner) @ weight, shares.at_boxes(at_columns, at_rows)


def projected_level(features: Tensor, block: BinLinear, reach: Reach, stride: int) -> ProjectedLevel:
    """Return a level that was multiplied with the layer's weight.

    Args:
        features: modulated, in the window of what boxes can reach: ``(S, rows, columns, C)``.
        block: the layer after pooling.
        reach: which cells each bin can touch.
        stride: crop pixels per cell.
    """
    first = reach.origin - reach.window.origin[..., None]
    columns, rows = (
        first[:, axis, :, None] + torch.arange(size, device=first.device) for axis, size in enumerate(reach.size)
    )
    sequence = torch.arange(len(features), device=features.device)[:, None, None, None, None]
    cells = features[sequence, rows[:, :, None, :, None], columns[:, None, :, None, :]]
    projected = torch.einsum("sbqc,bcd->sbqd", cells.flatten(3, 4).flatten(1, 2), block.weight)
    return ProjectedLevel(projected.flatten(1, 2), block.bias, reach, stride)


class _Shares:
    """The shares that cells have in the boxes' bins along either axis, and their derivatives.

    Args:
        boxes: ``(S, K, 4)``, ``x y w h`` in crop pixels.
        origin: the first column and row that each bin sees, ``(S, 2, bins)``.
        size: how many columns and rows it sees.
        stride: crop pixels per cell.
        dtype: the shares' type.

    Attributes:
        columns: ``(S, K, bins, columns)``.
        rows: ``(S, K, bins, rows)``.
    """

    def __init__(self, boxes: Tensor, origin: Tensor, size: tuple[int, int], stride: int, dtype: torch.dtype) -> None:
        bins = origin.shape[-1]
        start, extent = (boxes / stride)[..., None].chunk(2, dim=2)
        fractions = torch.linspace(0, 1, bins + 1, device=boxes.device, dtype=boxes.dtype)
        edges = torch.addcmul(start, extent, fractions)
        # Both ends of each bin at once, relative to the cells that the bin sees: (2, S, K, 2, bins, cells).
        ends = torch.stack([edges[..., :-1], edges[..., 1:]]) - origin[:, None]
        offsets = ends[..., None] - torch.arange(max(size), device=boxes.device, dtype=boxes.dtype)
        below, above = hat_integral(offsets)
        self._length = (extent / bins).clamp(min=torch.finfo(boxes.dtype).tiny)[..., None]
        self._both = (above - below) / self._length
        self._hats = (1 - offsets.abs()).clamp_(min=0)
        self._fractions = fractions
        self._stride, self._size = stride, size
        shares = self._both.to(dtype)
        self.columns, self.rows = shares[:, :, 0, :, : size[0]], shares[:, :, 1, :, : size[1]]

    def at_boxes(self, at_columns: Tensor, at_rows: Tensor) -> Tensor:
        """Return the gradient at the boxes ``(S, K, 4)`` from that at the shares."""
        at_shares = torch.zeros_like(self._both)
        at_shares[:, :, 0, :, : self._size[0]] = at_columns
        at_shares[:, :, 1, :, : self._size[1]] = at_rows
        at_shares /= self._length
        # At the edges; a longer bin also means a smaller share.
        at_below, at_above = (at_shares * self._hats).sum(dim=-1)
        at_start = at_above - at_below
        before, after = self._fractions[:-1], self._fractions[1:]
        smaller = (at_shares * self._both).sum(dim=-1) / len(before)
        at_extent = at_above * after - at_below * before - smaller
        return torch.cat([at_start.sum(dim=-1), at_extent.sum(dim=-1)], dim=-1) / self._stride


def _relu_slope(inner: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of ``relu(inner) @ weight`` at ``inner``."""
    return torch.where(inner > 0, weight, 0)
