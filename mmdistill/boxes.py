"""Boxes ``x y w h`` as tensors: how much two of them overlap, and the state in which TIR-CMD regresses one."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdistill.reductions import widen


def intersection_over_union(first: Tensor, second: Tensor) -> Tensor:
    """Return the overlap of boxes, intersection over union, 0 to 1.

    Args:
        first: ``(..., 4)``, ``x y w h``.
        second: ``(..., 4)``; the leading axes broadcast.

    Returns:
        ``(...)``, in float32 at least; 0 where neither box has an area, NaN where one is NaN.

    Example:
        >>> import torch
        >>> from mmdistill.boxes import intersection_over_union
        >>> intersection_over_union(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([[1.0, 0.0, 2.0, 2.0]]))
        tensor([0.3333])
    """
    first, second = widen(first), widen(second)
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    intersection = (high - low).clamp(min=0).prod(dim=-1)
    areas = [boxes[..., 2:].clamp(min=0).prod(dim=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - intersection
    return torch.where(union == 0, union, intersection / torch.where(union == 0, 1.0, union))


def box_state(boxes: Tensor) -> Tensor:
    """Return the state ``(cx / w, cy / h, log w, log h)`` that TIR-CMD eq. 3 regresses.

    As written there. The paper says that ``(cx, cy)`` are "image coordinates of the bounding box center" and leaves
    open which image, the whole one or the crop that the network sees: here they are in the frame of the boxes given,
    which for ``BBEDistiller`` are in crop pixels, all that a network can know. So a box in the crop's middle has a
    large first pair where it is small, and both pairs change with the crop's resolution.

    Args:
        boxes: ``(..., 4)``, ``x y w h``; w and h above 0, or the logarithm is not finite.

    Returns:
        ``(..., 4)``, in float32 at least.

    Example:
        >>> import torch
        >>> from mmdistill.boxes import box_state
        >>> box_state(torch.tensor([1.0, 3.0, 2.0, 1.0]))
        tensor([1.0000, 3.5000, 0.6931, 0.0000])
    """
    boxes = widen(boxes)
    corner, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(corner + size / 2) / size, size.log()], dim=-1)
