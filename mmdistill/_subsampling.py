"""Random subsets of a map's positions, on which an error is estimated without bias.

All subsets of one kind are equally likely, and together they hold each position once. So the sum over a random
subset, times their number, is on average the sum over the whole map, even if they differ in size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdistill._checks.arguments import argument_error

Size = tuple[int, int]

MAX_SUBSAMPLING = 4096
"""At least one of so many positions is used; on small maps at least two along each axis."""


class Positions(Protocol):
    """A subset of a map's positions."""

    @property
    def count(self) -> int:
        """Return the number of subsets that the positions are drawn from: one over the mean fraction of the map."""

    def select(self, features: Tensor) -> Tensor:
        """Return a map ``(B, C, H, W)`` at these positions, ``(B, C, h, w)``."""

    def convolve(self, features: Tensor, weight: Tensor) -> Tensor:
        """Return a 3x3 convolution with zero padding, at these positions only."""


@dataclass(frozen=True)
class Grid:
    """Every ``stride``-th row and column, beginning at ``offset``; the positions cover the whole image."""

    stride: Size
    offset: Size

    @property
    def count(self) -> int:
        """Return the number of offsets."""
        return math.prod(self.stride)

    def select(self, features: Tensor) -> Tensor:
        """Return a map at these positions."""
        return features[..., self.offset[0] :: self.stride[0], self.offset[1] :: self.stride[1]]

    def convolve(self, features: Tensor, weight: Tensor) -> Tensor:
        """Return the strided convolution of the whole map."""
        top, left = 1 - self.offset[0], 1 - self.offset[1]
        return F.conv2d(F.pad(features, (left, 1, top, 1)), weight, stride=self.stride)


@dataclass(frozen=True)
class TracedGrid:
    """A ``Grid`` for ``torch.compile`` and the like: the offset stays a tensor, so one graph serves every draw.

    Attributes:
        stride: rows and columns from one position to the next; it divides the map's size.
        offset: the first row and the first column, ``(2,)``.
    """

    stride: Size
    offset: Tensor

    @property
    def count(self) -> int:
        """Return the number of offsets."""
        return math.prod(self.stride)

    def select(self, features: Tensor) -> Tensor:
        """Return a map at these positions."""
        counts = features.shape[2] // self.stride[0], features.shape[3] // self.stride[1]
        return self._gather(features, counts, self.stride)

    def convolve(self, features: Tensor, weight: Tensor) -> Tensor:
        """Return the strided convolution of the whole map."""
        counts = features.shape[2] - self.stride[0] + 3, features.shape[3] - self.stride[1] + 3
        return F.conv2d(self._gather(F.pad(features, (1, 1, 1, 1)), counts, (1, 1)), weight, stride=self.stride)

    def _gather(self, features: Tensor, counts: Size, stride: Size) -> Tensor:
        """Return ``counts`` rows and columns, ``stride`` apart, beginning at the offset."""
        for axis in (0, 1):
            index = self.offset[axis] + stride[axis] * torch.arange(counts[axis], device=features.device)
            features = features.index_select(axis + 2, index)
        return features


@dataclass(frozen=True)
class Tile:
    """One tile of a map that is cut into tiles; the rest of the map need not be computed.

    Tiles consist of whole cells. A cell is what one position of the next deeper level covers.

    Attributes:
        rows: first row, and the row after the last.
        columns: first column, and the column after the last.
        cell: height and width of a cell.
        size: height and width of the whole map.
        count: number of tiles.
    """

    rows: Size
    columns: Size
    cell: Size
    size: Size
    count: int

    def select(self, features: Tensor) -> Tensor:
        """Return a map at these positions."""
        return features[..., slice(*self.rows), slice(*self.columns)]

    def crop(self, features: Tensor) -> Tensor:
        """Return this level's map on the tile and, for the convolution, on one cell around it inside the map."""
        return features[..., slice(*self._window(0)), slice(*self._window(1))]

    def crop_deeper(self, deeper: Tensor) -> Tensor:
        """Return the deeper level's map on the region of ``crop``."""
        rows, columns = ([bound // self.cell[axis] for bound in self._window(axis)] for axis in (0, 1))
        return deeper[..., slice(*rows), slice(*columns)]

    def convolve(self, features: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution on the tile, of a map from ``crop``."""
        return F.conv2d(F.pad(features, (*self._padding(1), *self._padding(0))), weight)

    def _window(self, axis: int) -> Size:
        start, stop = (self.rows, self.columns)[axis]
        return max(start - self.cell[axis], 0), min(stop + self.cell[axis], self.size[axis])

    def _padding(self, axis: int) -> Size:
        """Return 1 where the map ends; elsewhere a negative number that cuts the cell around the tile to one row."""
        start, stop = (self.rows, self.columns)[axis]
        cut = 1 - self.cell[axis]
        return (1 if start == 0 else cut), (1 if stop == self.size[axis] else cut)


def grid_strides(fraction: float) -> Size:
    """Return the strides of a grid with this fraction of positions: two factors of ``1 / fraction``, nearly equal.

    Raises:
        ValueError: the fraction is not 1/n with n from 1 to ``MAX_SUBSAMPLING``.
    """
    count = round(1 / fraction) if 0.5 / MAX_SUBSAMPLING < fraction <= 1 else 0
    if not 1 <= count <= MAX_SUBSAMPLING or abs(count * fraction - 1) > 1e-6:
        expected = f"1, 1/2, 1/3, 1/4 and so on to 1/{MAX_SUBSAMPLING}"
        raise argument_error("SCFDLoss", "sampling", expected, fraction)
    rows = max(factor for factor in range(1, math.isqrt(count) + 1) if count % factor == 0)
    return rows, count // rows


def draw_grid(size: Size, stride: Size) -> Grid:
    """Return a random grid of this stride, or of a smaller stride on small maps."""
    stride = _limited(stride, size)
    return Grid(stride, (_draw(stride[0]), _draw(stride[1])))


def draw_traced_grid(size: Size, stride: Size, device: torch.device) -> Positions:
    """Return a random traced grid; along an axis that the stride does not divide, it has all positions."""
    stride = _limited(stride, size)
    stride = (stride[0] if size[0] % stride[0] == 0 else 1), (stride[1] if size[1] % stride[1] == 0 else 1)
    return TracedGrid(stride, torch.stack([torch.randint(count, (), device=device) for count in stride]))


def draw_tile(size: Size, deeper: Size, counts: Size) -> Tile:
    """Return a random tile.

    Args:
        size: height and width of the map; multiples of ``deeper``.
        deeper: height and width of the next deeper level.
        counts: number of tiles along each axis; fewer on small maps.
    """
    counts = _limited((min(counts[0], deeper[0]), min(counts[1], deeper[1])), size)
    cell = size[0] // deeper[0], size[1] // deeper[1]
    ranges = []
    for axis in (0, 1):
        index = _draw(counts[axis])
        start, stop = (deeper[axis] * bound // counts[axis] for bound in (index, index + 1))
        ranges.append((start * cell[axis], stop * cell[axis]))
    return Tile(ranges[0], ranges[1], cell, size, math.prod(counts))


def _limited(stride: Size, size: Size) -> Size:
    """Return a stride that keeps two positions per axis where the map has two, for batch norm's statistics."""
    return min(stride[0], max(1, size[0] // 2)), min(stride[1], max(1, size[1] // 2))


def _draw(count: int) -> int:
    # Always on the CPU, where reading it costs nothing.
    return int(torch.randint(count, (), device="cpu").item())
