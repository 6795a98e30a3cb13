"""Precise RoI pooling in plain PyTorch: exact, on any device, differentiable in features and in boxes.

Jiang et al., Acquisition of Localization Confidence for Accurate Object Detection, ECCV 2018,
https://arxiv.org/abs/1807.11590. A bin's value is the integral of the bilinearly interpolated map over the bin, divided
by the bin's area. Bilinear interpolation is a product of one hat function per axis, so the integral separates. One
small matrix per axis holds each cell's weight in each bin, and pooling is two matrix products.
"""

from __future__ import annotations

import torch
from torch import Tensor


def precise_roi_pool(features: Tensor, boxes: Tensor, size: int, stride: float) -> Tensor:
    """Return each box's means of the interpolated map in ``size x size`` bins, ``(B, K, C, size, size)``.

    Cell ``i`` of the map lies at ``i * stride`` pixels. Beyond its outer cells the map falls to zero within one cell. A
    box without area gives zeros.

    Args:
        features: ``(B, C, H, W)``.
        boxes: ``(B, K, 4)`` as ``x y w h`` in pixels; K boxes on each of the B maps.
        size: bins along either axis of a box.
        stride: pixels per cell.
    """
    boxes = boxes / stride
    height, width = features.shape[-2:]
    # Both axes in one call: the time of small operations depends on their number.
    weights = bin_weights(boxes[..., :2], boxes[..., 2:], size, max(height, width)).to(features.dtype)
    columns, rows = weights[..., 0, :, :width], weights[..., 1, :, :height]
    batch, count = boxes.shape[:2]
    # Channels last: no product copies a map of that layout. Rows are pooled for all boxes in one product, then columns.
    lines = features.permute(0, 2, 3, 1).flatten(2)
    by_row = (rows.flatten(1, 2) @ lines).view(batch, count, size, width, -1)
    return (columns[:, :, None] @ by_row).permute(0, 1, 4, 2, 3)


def bin_weights(start: Tensor, extent: Tensor, bins: int, cells: int) -> Tensor:
    """Return each cell's weight in each bin along one axis, ``(..., bins, cells)``; a bin inside the map sums to 1.

    Args:
        start: the box's start, ``(...)``, in cells.
        extent: the box's length, ``(...)``, in cells.
        bins: number of equal bins in the box.
        cells: number of cells along this axis.
    """
    fractions = torch.linspace(0, 1, bins + 1, device=start.device, dtype=start.dtype)
    edges = torch.addcmul(start[..., None], extent[..., None], fractions)
    positions = torch.arange(cells, device=start.device, dtype=start.dtype)
    below = hat_integral(edges[..., None] - positions)
    length = (extent / bins).clamp(min=torch.finfo(extent.dtype).tiny)
    return (below[..., 1:, :] - below[..., :-1, :]) / length[..., None, None]


def hat_integral(x: Tensor) -> Tensor:
    """Return the integral from 0 to x of the hat function ``max(1 - |t|, 0)``."""
    x = x.clamp(-1, 1)
    return torch.addcmul(x, x, x.abs(), value=-0.5)
