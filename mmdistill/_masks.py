"""Masks of valid positions: their checks, and reductions over their positions.

A sample's error is the sum or the mean over its own valid positions; a batch's error is the mean over its samples. A
sample without valid positions has error 0 and counts in that mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdistill._checks.shapes import check_device
from mmdistill._execution import as_normal_tensor
from mmdistill._subsampling import Positions
from mmdistill.errors import ShapeError
from mmdistill.pair import Pair

LevelMasks = Tensor | Sequence[Tensor | None]
"""One mask ``(B, 1, H, W)`` for all levels, or a sequence with a mask or None (all positions) per level."""


class Mask(NamedTuple):
    """A checked mask.

    Attributes:
        positions: booleans ``(..., 1, H, W)``, true where a position counts.
        counts: each sample's number of positions that count, ``(...)``; of the whole map if it is subsampled.
    """

    positions: Tensor
    counts: Tensor

    @classmethod
    def of(cls, positions: Tensor | Mask) -> Mask:
        """Return the mask of boolean positions ``(..., 1, H, W)``; a ``Mask`` is returned as it is."""
        if isinstance(positions, Mask):
            return positions
        positions = as_normal_tensor(positions)
        return cls(positions, positions.sum(dim=(-3, -2, -1)))

    def at(self, subset: Positions) -> Mask:
        """Return the mask at a subset of positions; ``subset.count`` times ``mean`` estimates the whole map's mean."""
        return Mask(subset.select(self.positions), self.counts)

    def pooled(self, values: Tensor, size: tuple[int, int]) -> tuple[Tensor, Mask]:
        """Return the average-pooled values, each cell's mean over its positions that count, and the cells' mask.

        Args:
            values: ``(B, C, H, W)``, zero where a position does not count.
            size: height and width of the result.
        """
        fraction = F.adaptive_avg_pool2d(self.positions.to(values.dtype), size)
        average = F.adaptive_avg_pool2d(values, size) / torch.where(fraction > 0, fraction, 1.0)
        return average, Mask.of(fraction > 0)

    def applied(self, values: Tensor) -> Tensor:
        """Return the values ``(..., C, H, W)`` with zeros at positions that do not count, even for NaN."""
        return torch.where(self.positions, values, 0.0)

    def mean(self, values: Tensor) -> Tensor:
        """Return each sample's mean ``(...)`` over channels and positions that count; the values are ``applied``."""
        return values.sum(dim=(-3, -2, -1)) / self.counts.clamp(min=1) / values.shape[-3]


def level_masks(
    where: str, mask: LevelMasks | None, like: Sequence[Tensor], *, side: str = "mask", like_side: str = "student"
) -> list[Mask | None]:
    """Return a mask or None per level; refuse masks that do not fit the maps ``like``, ``(B, C, H, W)``."""
    if mask is None:
        return [None] * len(like)
    if isinstance(mask, Tensor):
        _check_positions(where, side, mask, like[0], f"{like_side} level 1")
        for number, features in enumerate(like, start=1):
            if features.shape[2:] != mask.shape[2:]:
                got = f"one for all, and {like_side} level {number} of {_size_text(features)}"
                raise ShapeError(
                    where, side, "levels", expected=f"a mask per level, or all of {_size_text(mask)}", got=got
                )
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
    """Return the mask of a response ``(..., H, W)``.

    It has the response's shape, or is ``(B, 1, H, W)`` for a response ``(B, H, W)``.
    """
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
    """Return each mask's number of positions per sample, by the names that errors use."""
    return {f"{side} level {n}": mask.counts for n, mask in enumerate(masks, start=1) if mask is not None}


def _check_booleans(where: str, side: str, mask: object, contract: str) -> None:
    if not isinstance(mask, Tensor):
        raise ShapeError(where, side, "type", expected=f"a tensor {contract}", got=type(mask).__name__)
    if mask.dtype != torch.bool:
        expected = "torch.bool, true where a position counts"
        raise ShapeError(where, side, "dtype", expected=expected, got=mask.dtype)


def _check_positions(where: str, side: str, mask: object, like: Tensor, like_side: str) -> None:
    """Refuse a mask that is not boolean ``(B, 1, H, W)`` of the map's batch, height, width and device."""
    _check_booleans(where, side, mask, "(B, 1, H, W)")
    assert isinstance(mask, Tensor)
    if mask.ndim != 4:
        raise ShapeError(where, side, "axes", expected="4 (B, 1, H, W)", got=tuple(mask.shape))
    sizes: Mapping[str, tuple[int, int, str]] = {
        "batch": (mask.shape[0], like.shape[0], f" as {like_side}"),
        "channels": (mask.shape[1], 1, ""),
        "height": (mask.shape[2], like.shape[2], f" as {like_side}"),
        "width": (mask.shape[3], like.shape[3], f" as {like_side}"),
    }
    for axis, (size, expected, source) in sizes.items():
        if size != expected:
            raise ShapeError(where, side, axis, expected=f"{expected}{source}", got=size)
    check_device(where, side, mask, like, like_side)


def _size_text(features: Tensor) -> str:
    return f"{features.shape[2]}x{features.shape[3]}"
