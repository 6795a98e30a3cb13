"""Boxes ``x y w h`` as tensors: their intersection over union, and the state that TIR-CMD regresses."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdistill._numerics import to_float32


def intersection_over_union(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over union (IoU) of boxes, from 0 to 1.

    Args:
        first: ``(..., 4)``, ``x y w h``.
        second: ``(..., 4)``; the leading axes broadcast.

    Returns:
        ``(...)``, in float32 or wider; 0 if neither box has an area, NaN if one is NaN.

    Example:
        >>> import torch
        >>> from mmdistill.tir_cmd.boxes import intersection_over_union
        >>> intersection_over_union(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([[1.0, 0.0, 2.0, 2.0]]))
        tensor([0.3333])
    """
    first, second = to_float32(first), to_float32(second)
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    intersection = (high - low).clamp(min=0).prod(dim=-1)
    areas = [boxes[..., 2:].clamp(min=0).prod(dim=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - intersection
    return torch.where(union == 0, union, intersection / torch.where(union == 0, 1.0, union))


def box_state(boxes: Tensor) -> Tensor:
    """Return the state ``(cx / w, cy / h, log w, log h)`` of TIR-CMD eq. 3.

    The paper calls ``(cx, cy)`` "image coordinates of the bounding box center". It does not say whether the image is
    the whole image or the crop. Here they are coordinates in the frame of the boxes, the crop for ``BBEDistiller``.
    So a small box in the crop's middle has a large ``cx / w``, and the state depends on the crop's resolution.

    Args:
        boxes: ``(..., 4)``, ``x y w h``; w and h above 0, else the logarithm is not finite.

    Returns:
        ``(..., 4)``, in float32 or wider.

    Example:
        >>> import torch
        >>> from mmdistill.tir_cmd.boxes import box_state
        >>> box_state(torch.tensor([1.0, 3.0, 2.0, 1.0]))
        tensor([1.0000, 3.5000, 0.6931, 0.0000])
    """
    boxes = to_float32(boxes)
    corner, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(corner + size / 2) / size, size.log()], dim=-1)
