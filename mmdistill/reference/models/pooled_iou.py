"""The predicted IoU of boxes and its gradient, by pooling whole maps: few operations, of fixed shapes.

Level 4 is padded to the cells and bins of level 3. So one operation serves both levels, all sequences and all boxes.
The derivation is in ``windowed_iou``, which does the same in windows around the boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdistill._numerics import without_autocast
from mmdistill.reference.models.iou_net import STRIDES, TEST_BINS, IoUFeatures, IoUNet, Modulation, to_folded

LEVELS = len(STRIDES)
BINS = max(TEST_BINS)
"""Bins along either axis of a box, on both levels. Bins that a level doesn't have are empty."""


MAX_CELLS = 512
"""Limit of a map's sides, cells."""


class PooledIoU(nn.Module):
    """The IoU and its gradient, for any boxes.

    Args:
        iou_net: in eval mode; its weights after pooling are copied.

    Example::

        iou, gradient = pooled_iou(PooledIoU(iou_net), modulation, iou_net.features(level3, level4))(boxes)
    """

    cells: Tensor
    scales: Tensor
    ends: Tensor
    derivatives: Tensor
    weight: Tensor
    bias: Tensor
    predictor: Tensor
    predictor_bias: Tensor

    def __init__(self, iou_net: IoUNet) -> None:
        super().__init__()
        blocks = [to_folded(block) for block in (iou_net.box_level3, iou_net.box_level4)]
        like = blocks[0].bias
        for name, values in _constants().items():
            self.register_buffer(name, values.to(like), persistent=False)
        self.register_buffer("bias", torch.stack([block.bias.detach() for block in blocks])[:, None], persistent=False)
        weights = [_pad_bins(block.weight.detach(), bins) for block, bins in zip(blocks, TEST_BINS, strict=True)]
        self.register_buffer("weight", torch.stack(weights), persistent=False)
        predictor = iou_net.predictor.weight.detach().view(LEVELS, 1, -1)
        self.register_buffer("predictor", predictor.to(like), persistent=False)
        self.register_buffer("predictor_bias", iou_net.predictor.bias.detach().to(like), persistent=False)

    def forward(self, features: Tensor, boxes: Tensor, *, with_iou: bool = True) -> tuple[Tensor | None, Tensor]:
        """Return the IoU ``(S, K)``, as ``IoUNet.predict`` does, and its gradient with respect to the boxes.

        Args:
            features: see ``join_maps``.
            boxes: ``(S, K, 4)``, ``x y w h`` in crop pixels, sides above 0.
            with_iou: whether to compute the IoU.
        """
        # Axes before boxes in memory: later products then need no copies.
        parts = torch.unflatten(boxes.flatten(0, 1), 1, (2, 2)).permute(1, 2, 0).contiguous()
        parts = parts[:, :, None, :, None, None]  # start and extent, axes, levels, boxes, bins, ends
        starts, lengths = parts * self.scales
        # Both ends of each bin relative to each cell: (axes, levels, boxes, bins, ends, cells).
        ends = torch.addcmul(starts, parts[1], self.ends)
        offsets = (ends[..., None] - self.cells[: features.shape[1]]).clamp(-1, 1)
        hats = 1 - offsets.abs()
        integrals = torch.addcmul(offsets, offsets, hats)  # twice the hat's
        weights = (integrals[..., 1, :] - integrals[..., 0, :]) / lengths
        at_weights, iou = self._pool(features, weights.to(features.dtype), len(boxes), with_iou)
        at_weights = at_weights / lengths
        derivatives = torch.cat([hats, weights[..., None, :]], dim=-2)
        with without_autocast(boxes.device.type):
            by_part = derivatives @ at_weights[..., None]  # (axes, levels, boxes, bins, parts, 1)
        gradient = (by_part[..., 0] * self.derivatives[:, None]).sum(dim=(2, 4, 5))  # (start and extent, axes, boxes)
        return None if iou is None else iou.view(boxes.shape[:2]), gradient.permute(2, 0, 1).view(boxes.shape)

    def _pool(self, features: Tensor, weights: Tensor, sequences: int, with_iou: bool) -> tuple[Tensor, Tensor | None]:
        """Return the gradient of the IoU with respect to the weights of cells in bins, and the IoU.

        Args:
            features: ``(levels * S, cells, cells * C)``, rows first.
            weights: ``(2, levels, S * K, bins, cells)``, columns before rows.
            sequences: S.
            with_iou: whether to compute the IoU.

        Returns:
            ``(2, levels, S * K, bins, cells)`` and ``(S * K,)``.
        """
        _, levels, boxes, bins, cells = weights.shape
        rows = weights[1].view(levels * sequences, -1, cells)
        columns = weights[0, :, :, None].expand(-1, -1, bins, -1, -1).reshape(-1, bins, cells)  # for each row of bins
        in_rows = torch.bmm(rows, features).view(len(columns), cells, -1)
        pooled = torch.bmm(columns, in_rows).view(levels, boxes, -1)
        inner = torch.baddbmm(self.bias, pooled, self.weight)
        at_inner = (inner > 0) * self.predictor
        # As relu(inner) @ predictor.
        iou = (inner * at_inner).sum(dim=(0, 2)) + self.predictor_bias if with_iou else None
        at_pooled = torch.bmm(at_inner.to(pooled.dtype), self.weight.mT).view(len(columns), bins, -1)
        at_columns = torch.bmm(at_pooled, in_rows.mT).view(levels, boxes, bins, bins, cells).sum(dim=2)
        at_in_rows = torch.bmm(columns.mT, at_pooled).view(len(rows), rows.shape[1], -1)
        at_rows = torch.bmm(at_in_rows, features.mT).view(at_columns.shape)
        return torch.stack([at_columns, at_rows]), iou


@dataclass(frozen=True)
class PooledIoUFunction:
    """The IoU function of a test frame; see ``IoUFunction``.

    Attributes:
        pooled: the IoU-Net's.
        features: modulated, see ``join_maps``.
    """

    pooled: PooledIoU
    features: Tensor

    def __call__(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """See ``IoUFunction``."""
        iou, gradient = self.pooled(self.features, boxes)
        return iou, gradient

    def gradient(self, boxes: Tensor) -> Tensor:
        """See ``IoUFunction``."""
        gradient: Tensor = self.pooled(self.features, boxes, with_iou=False)[1]
        return gradient


def pooled_iou(pooled: PooledIoU, modulation: Modulation, features: IoUFeatures) -> PooledIoUFunction:
    """Return the IoU function of a test frame, for any boxes.

    Args:
        pooled: the IoU-Net's.
        modulation: of the reference frame, vectors ``(S, C, 1, 1)``.
        features: of the test frame, ``(S, C, H, W)``.
    """
    return PooledIoUFunction(pooled, join_maps([x * vector for x, vector in zip(features, modulation, strict=True)]))


def join_maps(maps: Sequence[Tensor]) -> Tensor:
    """Return both levels' maps ``(S, C, H, W)`` as one, ``(levels * S, cells, cells * C)``, padded with zeros."""
    side = max(size for x in maps for size in x.shape[-2:])
    padded = [
        x if x.shape[-2:] == (side, side) else F.pad(x, (0, side - x.shape[-1], 0, side - x.shape[-2])) for x in maps
    ]
    return torch.cat(padded).permute(0, 2, 3, 1).flatten(2)


def _constants() -> dict[str, Tensor]:
    """Return constants of the levels' bins, in float64, shaped to act on (axes, levels, boxes, bins, ends).

    ``scales`` (start and extent, 1, ...) times a box's start and extent are its start in cells, and twice a bin's
    length. ``ends`` times the extent, plus the start, are the two ends of each bin in cells. ``derivatives`` (start and
    extent, levels, 1, bins, parts) are those of the weights' ends and length by the box's start and extent.
    """
    scales = torch.zeros(2, 1, LEVELS, 1, 1, 1, dtype=torch.float64)
    ends = torch.zeros(LEVELS, 1, BINS, 2, dtype=torch.float64)
    derivatives = torch.zeros(2, LEVELS, 1, BINS, 3, dtype=torch.float64)
    sign = torch.tensor([-2.0, 2.0], dtype=torch.float64)
    for level, (stride, bins) in enumerate(zip(STRIDES, TEST_BINS, strict=True)):
        edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64) / stride
        scales[0, 0, level], scales[1, 0, level] = 1 / stride, 2 / (stride * bins)
        ends[level, 0, :bins] = torch.stack([edges[:-1], edges[1:]], dim=-1)
        derivatives[0, level, 0, :, :2] = sign / stride
        derivatives[1, level, 0, :, :2] = sign * ends[level, 0]
        derivatives[1, level, 0, :, 2] = -2 / (stride * bins)
    cells = torch.arange(MAX_CELLS, dtype=torch.float64)
    return {"cells": cells, "scales": scales, "ends": ends, "derivatives": derivatives}


def _pad_bins(weight: Tensor, bins: int) -> Tensor:
    """Return a weight ``(bins * bins, C, C')`` as ``(BINS * BINS * C, C')``, zero in bins that are added."""
    spare = BINS - bins
    grid = torch.unflatten(weight, 0, (bins, bins))
    return F.pad(grid, (0, 0, 0, 0, 0, spare, 0, spare)).flatten(0, 2)
