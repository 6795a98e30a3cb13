"""Parts of a map's positions, drawn at random, on which an error is estimated without bias.

Every choice of a kind is equally likely, and together the choices hold each position once. So the mean of an error over
the positions of one choice, times ``factor``, is on average over the draws the mean over the whole map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]

MAX_STEPS = 4096
"""Of how many positions one is the fewest that are taken; on small maps always two along each axis."""


class Positions(Protocol):
    """Some of a map's positions."""

    def take(self, features: Tensor) -> Tensor:
        """Return a map ``(B, C, H, W)`` at these positions, ``(B, C, h, w)``."""

    def factor(self, size: Size) -> float:
        """Return what a mean over these positions, of a map of this size, is to be multiplied by."""

    def convolve(self, features: Tensor, weight: Tensor) -> Tensor:
        """Return a 3x3 convolution with zero padding at these positions only."""


@dataclass(frozen=True)
class Grid:
    """Every ``step``-th row and column from ``phase`` on. Few positions stand for all parts of the image."""

    step: Size
    phase: Size

    def take(self, features: Tensor) -> Tensor:
        """Return a map at these positions."""
        return features[..., self.phase[0] :: self.step[0], self.phase[1] :: self.step[1]]

    def factor(self, size: Size) -> float:
        """Return 1, or a little off it where ``step`` doesn't divide the size."""
        taken = [
            (side - phase + step - 1) // step for side, step, phase in zip(size, self.step, self.phase, strict=True)
        ]
        return math.prod(self.step) * math.prod(taken) / math.prod(size)

    def convolve(self, features: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution of the whole map, strided."""
        top, left = 1 - self.phase[0], 1 - self.phase[1]
        return F.conv2d(F.pad(features, (left, 1, top, 1)), weight, stride=self.step)


@dataclass(frozen=True)
class TracedGrid:
    """A ``Grid`` where no value can be read, as inside ``torch.compile``: the phase stays a tensor.

    So one graph serves every draw.

    The step must divide the map's size.

    Attributes:
        step: rows and columns from one position to the next.
        phase: the first row and the first column, ``(2,)``.
    """

    step: Size
    phase: Tensor

    def take(self, features: Tensor) -> Tensor:
        """Return a map at these positions."""
        counts = features.shape[2] // self.step[0], features.shape[3] // self.step[1]
        return self._gather(features, counts, self.step)

    def factor(self, size: Size) -> float:  # noqa: ARG002
        """Return 1: all grids are of one size."""
        return 1.0

    def convolve(self, features: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution of the whole map, strided."""
        reached = features.shape[2] - self.step[0] + 3, features.shape[3] - self.step[1] + 3
        return F.conv2d(self._gather(F.pad(features, (1, 1, 1, 1)), reached, (1, 1)), weight, stride=self.step)

    def _gather(self, features: Tensor, counts: Size, step: Size) -> Tensor:
        """Return ``counts`` rows and columns, ``step`` apart, from the phase on."""
        for axis in (0, 1):
            index = self.phase[axis] + step[axis] * torch.arange(counts[axis], device=features.device)
            features = features.index_select(axis + 2, index)
        return features


@dataclass(frozen=True)
class Tile:
    """One tile of a map cut into tiles along whole cells of the next deeper level: the rest need not be made at all.

    Attributes:
        rows: first row, and the one after the last.
        columns: the same of columns.
        cell: rows and columns of this level that one position of the deeper level covers.
        size: height and width of the whole map.
        count: into how many tiles it is cut.
    """

    rows: Size
    columns: Size
    cell: Size
    size: Size
    count: int

    def take(self, features: Tensor) -> Tensor:
        """Return a map at these positions."""
        return features[..., slice(*self.rows), slice(*self.columns)]

    def factor(self, size: Size) -> float:
        """Return 1, or a little off it where the tiles are not of one size."""
        taken = (self.rows[1] - self.rows[0]) * (self.columns[1] - self.columns[0])
        return self.count * taken / math.prod(size)

    def with_border(self, features: Tensor) -> Tensor:
        """Return this level's map on the tile and, for the convolution, a cell around it where the map goes on."""
        return features[..., slice(*self._window(0)), slice(*self._window(1))]

    def with_border_deeper(self, deeper: Tensor) -> Tensor:
        """Return the deeper level's map on what covers ``with_border``."""
        rows, columns = ([bound // self.cell[axis] for bound in self._window(axis)] for axis in (0, 1))
        return deeper[..., slice(*rows), slice(*columns)]

    def convolve(self, features: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution on the tile, of a map as ``with_border`` cuts it."""
        return F.conv2d(F.pad(features, (*self._padding(1), *self._padding(0))), weight)

    def _window(self, axis: int) -> Size:
        start, stop = (self.rows, self.columns)[axis]
        return max(start - self.cell[axis], 0), min(stop + self.cell[axis], self.size[axis])

    def _padding(self, axis: int) -> Size:
        """Return one row of zeros where the map ends; of the cell around the tile, all but one row is cut off."""
        start, stop = (self.rows, self.columns)[axis]
        cut = 1 - self.cell[axis]
        return (1 if start == 0 else cut), (1 if stop == self.size[axis] else cut)


def steps(share: float) -> Size:
    """Return two factors of ``1 / share``, as equal as they can be.

    Raises:
        ValueError: the share is not one over a whole number, which is at most ``MAX_STEPS``.
    """
    whole = round(1 / share) if 0.5 / MAX_STEPS < share <= 1 else 0
    if not 1 <= whole <= MAX_STEPS or abs(whole * share - 1) > 1e-6:
        raise ValueError(f"SCFDLoss: sampling must be 1, 1/2, 1/3, 1/4 and so on to 1/{MAX_STEPS}; got {share!r}")
    rows = max(factor for factor in range(1, math.isqrt(whole) + 1) if whole % factor == 0)
    return rows, whole // rows


def draw_grid(size: Size, step: Size) -> Grid:
    """Return one of the grids of this step; on small maps of a smaller one."""
    step = _at_most(step, size)
    return Grid(step, (_draw(step[0]), _draw(step[1])))


def trace_grid(size: Size, step: Size, device: torch.device) -> Positions:
    """Return the same where no value can be read; along an axis that the step doesn't divide, all positions."""
    step = _at_most(step, size)
    step = (step[0] if size[0] % step[0] == 0 else 1), (step[1] if size[1] % step[1] == 0 else 1)
    return TracedGrid(step, torch.stack([torch.randint(count, (), device=device) for count in step]))


def draw_tile(size: Size, deeper: Size, counts: Size) -> Tile:
    """Return one of the tiles into which a map is cut, whose size is a multiple of the deeper level's."""
    counts = _at_most((min(counts[0], deeper[0]), min(counts[1], deeper[1])), size)
    cell = size[0] // deeper[0], size[1] // deeper[1]
    sides = []
    for axis in (0, 1):
        index = _draw(counts[axis])
        start, stop = (deeper[axis] * bound // counts[axis] for bound in (index, index + 1))
        sides.append((start * cell[axis], stop * cell[axis]))
    return Tile(sides[0], sides[1], cell, size, math.prod(counts))


def _at_most(step: Size, size: Size) -> Size:
    """Return a step that leaves two positions per axis, where there are two: batch norm takes statistics of them."""
    return min(step[0], max(1, size[0] // 2)), min(step[1], max(1, size[1] // 2))


def _draw(count: int) -> int:
    # On the processor whatever the default device is: its value is read here.
    return int(torch.randint(count, (), device="cpu").item())
