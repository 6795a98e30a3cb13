"""Windows of a feature map: the cells that boxes can touch, and the IoU features there.

Box refinement needs a frame's features around the start boxes only. They equal those of the whole map: the two 3x3
convolutions of a level read ``HALO`` cells around a window, and cells outside the map are zero before each of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HALO = 2
"""Cells around a window that its features depend on: one per convolution."""


class Window(NamedTuple):
    """A rectangle of a map's cells, of one size, at a position per sequence.

    Attributes:
        origin: the first column and row, ``(S, 2)``.
        size: numbers of columns and rows.
    """

    origin: Tensor
    size: tuple[int, int]


class BinWindows(NamedTuple):
    """The cells that each bin of boxes can touch: columns by the bin's column, rows by its row.

    Attributes:
        origin: the first column and row per bin, ``(S, 2, bins)``.
        size: numbers of columns and rows per bin.
        hull: the window around all bins.
    """

    origin: Tensor
    size: tuple[int, int]
    hull: Window


def bin_windows(boxes: Tensor, margin: float, bins: int, stride: float, map_size: tuple[int, int]) -> BinWindows | None:
    """Return the cells that boxes touch; None if the whole map costs no more than the window.

    Reads the boxes' values, so a GPU is synchronized.

    Args:
        boxes: ``(S, K, 4)``, ``x y w h`` in crop pixels.
        margin: distance that boxes may move, crop pixels.
        bins: bins along either axis of a box.
        stride: crop pixels per cell.
        map_size: columns and rows of the map.
    """
    limit = torch.tensor(map_size, device=boxes.device)
    low, high = _touched_cells(boxes, margin, bins, stride, limit)
    size = (high - low).amax(dim=(0, 2)) + 1
    origin = low.minimum((limit - size)[:, None])
    first, last = origin.amin(dim=-1), origin.amax(dim=-1) + size - 1
    # Even sizes only: each new size makes the convolution library prepare anew.
    hull_size = (((last - first).amax(dim=0) // 2 + 1) * 2).minimum(limit)
    hull = Window(first.minimum(limit - hull_size), _to_tuple(hull_size))
    if (hull.size[0] + 2 * HALO) * (hull.size[1] + 2 * HALO) >= map_size[0] * map_size[1]:
        return None
    return BinWindows(origin, _to_tuple(size), hull)


def contains_boxes(windows: BinWindows, boxes: Tensor, stride: float, map_size: tuple[int, int]) -> bool:
    """Return whether boxes ``(S, K, 4)`` touch only cells in their windows; arguments as in ``bin_windows``."""
    limit = torch.tensor(map_size, device=boxes.device)
    low, high = _touched_cells(boxes, 0.0, windows.origin.shape[-1], stride, limit)
    last = windows.origin + torch.tensor(windows.size, device=boxes.device)[:, None] - 1
    return bool(((low >= windows.origin) & (high <= last)).all())


def window_features(blocks: nn.Sequential, level: Tensor, window: Window) -> Tensor:
    """Return the features in a window, ``(S, C', rows, columns)``.

    Args:
        blocks: two blocks of a 3x3 convolution and pointwise layers.
        level: the whole map before them, ``(S, C, H, W)``.
        window: a window of that map.
    """
    first, second = blocks
    sequence = torch.arange(len(level), device=level.device)[:, None, None]
    columns, rows, inside = _cells_with_halo(window, level)
    cut = level.permute(0, 2, 3, 1)[sequence, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    hidden = _apply_unpadded(first, cut * inside)
    return _apply_unpadded(second, hidden * inside[..., 1:-1, 1:-1])


def _touched_cells(boxes: Tensor, margin: float, bins: int, stride: float, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and last column and row that each bin touches, both ``(S, 2, bins)``.

    A bin touches the cells from the last one at or before its start to the first one at or after its end. NaN boxes
    touch the first cell.
    """
    fractions = torch.linspace(0, 1, bins + 1, device=boxes.device, dtype=boxes.dtype)
    edges = torch.addcmul(boxes[..., :2, None], boxes[..., 2:, None], fractions)
    low, high = ((edges[..., :-1] - margin) / stride).floor(), ((edges[..., 1:] + margin) / stride).ceil()
    last = limit[:, None] - 1
    low, high = (cells.nan_to_num().clamp(min=0).minimum(last) for cells in (low, high))
    return low.amin(dim=1).long(), high.amax(dim=1).long()


def _cells_with_halo(window: Window, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the columns ``(S, w)`` and rows ``(S, h)`` of a window with its halo, and a mask ``(S, 1, h, w)``.

    Cells outside the map are clamped to its border; the mask is 0 there and 1 elsewhere.
    """
    clamped, inside = [], []
    for axis, (size, limit) in enumerate(zip(window.size, (level.shape[-1], level.shape[-2]), strict=True)):
        cells = window.origin[:, axis, None] + torch.arange(-HALO, size + HALO, device=level.device)
        clamped.append(cells.clamp(0, limit - 1))
        inside.append((cells == clamped[-1]).to(level.dtype))
    return clamped[0], clamped[1], inside[1][:, None, :, None] * inside[0][:, None, None, :]


def _apply_unpadded(block: nn.Module, x: Tensor) -> Tensor:
    convolution, *rest = block.children()
    assert isinstance(convolution, nn.Conv2d)
    x = F.conv2d(x, convolution.weight, convolution.bias)
    for layer in rest:
        x = layer(x)
    return x


def _to_tuple(size: Tensor) -> tuple[int, int]:
    columns, rows = size.tolist()
    return columns, rows
