"""Where boxes can reach on a test frame, and the IoU features there, exactly as on the whole map.

The two 3x3 convolutions of a level see two cells beyond a window. Where those lie outside the map, the input of
either convolution is zero there, as its padding is on the whole map.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
