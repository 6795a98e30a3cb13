"""Where score-map cells stand relative to boxes: what labels and the filter optimiser agree on."""

from __future__ import annotations

import torch
from torch import Tensor


def distance_to_centre(boxes: Tensor, size: tuple[int, int], stride: float) -> Tensor:
    """Return each score cell's distance ``(..., H', W')`` to the boxes' centres, in cells.

    Cell i of a score map stands at ``i * stride`` crop pixels.

    Args:
        boxes: ``(..., 4)``, ``x y w h`` in crop pixels.
        size: H', W' of the score map.
        stride: crop pixels per cell.
    """
    centre = (boxes[..., :2] + boxes[..., 2:] / 2) / stride
    rows, columns = (torch.arange(length, device=boxes.device, dtype=boxes.dtype) for length in size)
    down = rows[:, None] - centre[..., 1, None, None]
    right = columns[None, :] - centre[..., 0, None, None]
    return (down.square() + right.square()).sqrt()


def gaussian_label(boxes: Tensor, size: tuple[int, int], stride: float, sigma: float) -> Tensor:
    """Return Gaussians ``(..., H', W')`` of height 1 and deviation ``sigma`` cells at the boxes' centres."""
    return torch.exp(-0.5 * (distance_to_centre(boxes, size, stride) / sigma).square())
