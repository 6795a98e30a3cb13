"""Greedy suppression: of boxes that overlap, the best alone."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdistill.boxes import intersection_over_union


def without_duplicates(boxes: Tensor, overlap: float, maximum: int) -> Tensor:
    """Return the indices ``(K,)`` of the boxes that overlap no box kept before them by more.

    Args:
        boxes: ``(N, 4)``, ``x y w h``, best first.
        overlap: intersection over union.
        maximum: at most so many are kept.
    """
    left = torch.arange(len(boxes), device=boxes.device)
    kept: list[Tensor] = []
    while len(left) and len(kept) < maximum:
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[intersection_over_union(boxes[left], boxes[best]) <= overlap]
    return torch.stack(kept) if kept else left
