"""Masks of the positions that count: how every loss takes one, checks it, and averages over its positions.

Each sample's error is the mean over its own positions that count, and a batch's the mean over its samples. So a batch's
value stays the mean of its samples' values, whatever the masks. A sample without any position that counts has error 0
and stays in that mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdistill._contracts import check_device
from mmdistill._subsampling import Positions
from mmdistill._transforms import savable
from mmdistill.errors import ShapeError
from mmdistill.pair import Pair

LevelMasks = Tensor | Sequence[Tensor | None]
"""Which positions count: one mask ``(B, 1, H, W)`` for all levels, or per level a mask or None for all positions."""


class Mask(NamedTuple):
    """A checked mask.

    Attributes:
        positions: which positions count, ``(..., 1, H, W)``, booleans.
        counts: how many of each sample's, ``(...)``.
        share: the share of the map's positions that is looked at.
    """

    positions: Tensor
    counts: Tensor
    share: float = 1.0

    @classmethod
    def of(cls, positions: Tensor | Mask) -> Mask:
        """Return the mask of these positions ``(..., 1, H, W)``, booleans; a mask as it is."""
        if isinstance(positions, Mask):
            return positions
        positions = savable(positions)
        return cls(positions, positions.sum(dim=(-3, -2, -1)))

    def at(self, where: Positions) -> Mask:
        """Return the mask at some positions: a sum over them is divided by how many are expected to count there."""
        taken = where.take(self.positions)
        whole, part = self.positions.shape[-2:], taken.shape[-2:]
        return Mask(taken, self.counts, part[0] * part[1] / (whole[0] * whole[1]))

    def pooled(self, values: Tensor, size: tuple[int, int]) -> tuple[Tensor, Mask]:
        """Return each cell's average of values ``(B, C, H, W)`` over positions that count, and which cells have any.

        Args:
            values: zero where the mask is not set.
            size: rows and columns of cells.
        """
        share = F.adaptive_avg_pool2d(self.positions.to(values.dtype), size)
        average = F.adaptive_avg_pool2d(values, size) / torch.where(share > 0, share, 1.0)
        return average, Mask.of(share > 0)

    def applied(self, values: Tensor) -> Tensor:
        """Return the values ``(..., C, H, W)`` with zeros at positions that don't count, whatever stood there."""
        return torch.where(self.positions, values, 0.0)

    def mean(self, values: Tensor) -> Tensor:
        """Return each sample's mean ``(...)`` over channels and positions that count, of ``applied`` values."""
        return values.sum(dim=(-3, -2, -1)) / self.counts.clamp(min=1) / (values.shape[-3] * self.share)


def level_masks(
    where: str, mask: LevelMasks | None, like: Sequence[Tensor], *, side: str = "mask", like_side: str = "student"
) -> list[Mask | None]:
    """Return one mask or None per level, refused where it doesn't fit the maps ``like``, ``(B, C, H, W)``."""
    if mask is None:
        return [None] * len(like)
    if isinstance(mask, Tensor):
        _check_positions(where, side, mask, like[0], f"{like_side} level 1")
        for number, features in enumerate(like, start=1):
            if features.shape[2:] != mask.shape[2:]:
                got = f"one for all, and {like_side} level {number} of {_size(features)}"
                raise ShapeError(where, side, "levels", expected=f"a mask per level, or all of {_size(mask)}", got=got)
        return [Mask.of(mask)] * len(like)
    if isinstance(mask, Pair) or not isinstance(mask, Sequence):
        expected = "a tensor (B, 1, H, W), or a sequence of one per level"
        raise ShapeError(where, side, "type", expected=expected, got=type(mask).__name__)
    if len(mask) != len(like):
        raise ShapeError(where, side, "levels", expected=len(like), got=len(mask))
    masks: list[Mask | None] = []
    for number, (positions, features) in enumerate(zip(mask, like, strict=True), start=1):
        if positions is not None:
            _check_positions(where, f"{side} level {number}", positions, features, f"{like_side} level {number}")
        masks.append(None if positions is None else Mask.of(positions))
    return masks


def response_mask(where: str, mask: Tensor | None, like: Tensor, like_side: str) -> Mask | None:
    """Return the mask of a response ``(..., H, W)``: of its shape, or ``(B, 1, H, W)`` for a response ``(B, H, W)``."""
    if mask is None:
        return None
    if like.ndim == 3 and isinstance(mask, Tensor) and mask.ndim == 4:
        _check_positions(where, "mask", mask, like[:, None], like_side)
        return Mask.of(mask)
    _check_booleans(where, "mask", mask, f"{tuple(like.shape)} as {like_side}")
    if mask.shape != like.shape:
        expected = f"{tuple(like.shape)} as {like_side}"
        raise ShapeError(where, "mask", "shape", expected=expected, got=tuple(mask.shape))
    check_device(where, "mask", mask, like, like_side)
    return Mask.of(mask.unsqueeze(-3))


def mask_counts(masks: Sequence[Mask | None], side: str = "mask") -> dict[str, Tensor]:
    """Return how many of each sample's positions count, of each level with a mask, by the name an error calls it."""
    return {f"{side} level {n}": mask.counts for n, mask in enumerate(masks, start=1) if mask is not None}


def _check_booleans(where: str, side: str, mask: object, contract: str) -> None:
    if not isinstance(mask, Tensor):
        raise ShapeError(where, side, "type", expected=f"a tensor {contract}", got=type(mask).__name__)
    if mask.dtype != torch.bool:
        expected = "torch.bool, true where a position counts"
        raise ShapeError(where, side, "dtype", expected=expected, got=mask.dtype)


def _check_positions(where: str, side: str, mask: object, like: Tensor, like_side: str) -> None:
    """Refuse what is not ``(B, 1, H, W)``, boolean, of the map's batch, height and width, on its device."""
    _check_booleans(where, side, mask, "(B, 1, H, W)")
    assert isinstance(mask, Tensor)
    if mask.ndim != 4:
        raise ShapeError(where, side, "axes", expected="4 (B, 1, H, W)", got=tuple(mask.shape))
    wanted: Mapping[str, tuple[int, int, str]] = {
        "batch": (mask.shape[0], like.shape[0], f" as {like_side}"),
        "channels": (mask.shape[1], 1, ""),
        "height": (mask.shape[2], like.shape[2], f" as {like_side}"),
        "width": (mask.shape[3], like.shape[3], f" as {like_side}"),
    }
    for axis, (got, expected, whose) in wanted.items():
        if got != expected:
            raise ShapeError(where, side, axis, expected=f"{expected}{whose}", got=got)
    check_device(where, side, mask, like, like_side)


def _size(features: Tensor) -> str:
    return f"{features.shape[2]}x{features.shape[3]}"
