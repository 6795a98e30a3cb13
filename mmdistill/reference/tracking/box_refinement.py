"""Box refinement: gradient ascent on the predicted IoU from several proposals, then the mean of the best.

ATOM, arXiv 1811.07628, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmdistill.reference.models.iou_net import IoUFunction, IoUNet, Modulation
from mmdistill.reference.models.pooled_iou import PooledIoU, pooled_iou
from mmdistill.reference.models.windowed_iou import level_windows, windowed_iou, windows_contain
from mmdistill.reference.tracking.settings import RefinementSettings

WINDOW_MARGINS = (8.0, 32.0)
"""Margins around the proposals of the windows in which IoU features are computed, crop pixels. The second is tried when
boxes leave the first window; then the whole map is computed. Ours; the boxes do not depend on them."""


class AscentResult(NamedTuple):
    """The result of gradient ascent.

    Attributes:
        boxes: ``(S, K, 4)``.
        iou: predicted before the last step, ``(S, K)``.
        evaluated: all boxes whose IoU was predicted, ``(S, steps * K, 4)``; the proposals without steps.
    """

    boxes: Tensor
    iou: Tensor
    evaluated: Tensor


@torch.no_grad()
def refine(
    iou_net: IoUNet,
    pooled: PooledIoU,
    modulation: Modulation,
    level3: Tensor,
    level4: Tensor,
    boxes: Tensor,
    jitter: Tensor,
    settings: RefinementSettings,
    *,
    windowed: bool = False,
) -> Tensor:
    """Return the refined boxes ``(S, 4)``; a box stays as it is if no proposal ends with a valid shape.

    The frame's IoU features are computed here.

    Args:
        iou_net: in eval mode.
        pooled: of the network.
        modulation: vectors of the target ``(S, C, 1, 1)``.
        level3: the frame's fused map at stride 8, ``(S, C3, H, W)``.
        level4: at stride 16, ``(S, C4, H / 2, W / 2)``.
        boxes: one per sequence, ``(S, 4)`` as ``x y w h``, crop pixels.
        jitter: of the K proposals' centers and sides, ``(S, K, 4)``, relative to the root of the box's area; 0 for the
            box itself.
        settings: steps and limits.
        windowed: whether features are computed in windows around the boxes only, with the same result. The host reads
            the windows' positions.
    """
    proposals = initial_proposals(boxes, jitter, settings)
    levels = (level3, level4)
    result = _ascend_in_windows(iou_net, modulation, levels, proposals, settings) if windowed else None
    if result is None:
        result = gradient_ascent(pooled_iou(pooled, modulation, iou_net.features(level3, level4)), proposals, settings)
    return mean_of_best(result.boxes, result.iou, boxes, settings)


def _ascend_in_windows(
    iou_net: IoUNet, modulation: Modulation, levels: Sequence[Tensor], proposals: Tensor, settings: RefinementSettings
) -> AscentResult | None:
    """Return the result of ``gradient_ascent`` with features in windows around the proposals.

    Returns None if windows cost as much as the whole map, or if boxes leave the widest.
    """
    for margin in WINDOW_MARGINS:
        reaches = level_windows(proposals, margin, levels)
        if reaches is None:
            return None
        result = gradient_ascent(windowed_iou(iou_net, modulation, levels, reaches), proposals, settings)
        if windows_contain(reaches, result.evaluated, levels):
            return result
    return None


def initial_proposals(boxes: Tensor, jitter: Tensor, settings: RefinementSettings) -> Tensor:
    """Return the proposals ``(S, K, 4)``; arguments as in ``refine``."""
    size = boxes[:, None, 2:]
    root = size.prod(dim=-1, keepdim=True).sqrt()
    smallest = settings.minimum_start_side * size.amin(dim=-1, keepdim=True)
    offset = root * jitter
    center = boxes[:, None, :2].add(size, alpha=0.5) + offset[..., :2]
    sides = torch.maximum(size + offset[..., 2:], smallest)
    return torch.cat([center.sub(sides, alpha=0.5), sides], dim=-1)


def gradient_ascent(iou_function: IoUFunction, boxes: Tensor, settings: RefinementSettings) -> AscentResult:
    """Return boxes ``(S, K, 4)`` after gradient ascent on their predicted IoU."""
    boxes = boxes.permute(2, 0, 1).contiguous().permute(1, 2, 0)  # the layout in which PooledIoU copies nothing
    iou = boxes.new_zeros(boxes.shape[:2])
    evaluated: list[Tensor] = []
    for step in range(settings.steps):
        evaluated.append(boxes)
        if step == settings.steps - 1:
            iou, gradient = iou_function(boxes)
        else:
            gradient = iou_function.gradient(boxes)
        # Corner and size as two rows of x and y: both move by their gradient times the size.
        parts, slopes = (torch.unflatten(values, -1, (2, 2)) for values in (boxes, gradient))
        moved = torch.addcmul(parts, slopes, parts[..., 1:, :], value=settings.step_length)
        moved[..., 1, :].clamp_(min=settings.minimum_side)
        boxes = moved.flatten(-2)
    return AscentResult(boxes, iou, torch.cat(evaluated or [boxes], dim=1))


def mean_of_best(boxes: Tensor, iou: Tensor, fallback: Tensor, settings: RefinementSettings) -> Tensor:
    """Return the mean of each sequence's boxes with the highest IoU, ``(S, 4)``.

    Args:
        boxes: ``(S, K, 4)``; boxes that are not finite or above the aspect limit are dropped.
        iou: ``(S, K)``.
        fallback: the result if all boxes are dropped, ``(S, 4)``.
        settings: how many boxes are averaged, and the aspect limit.
    """
    aspect = boxes[..., 2:].amax(dim=-1) / boxes[..., 2:].amin(dim=-1)
    valid = (aspect <= settings.maximum_aspect) & (boxes.abs().amax(dim=-1) < torch.inf)
    best = iou.masked_fill(~valid, -torch.inf).topk(min(settings.averaged, iou.shape[1]), dim=1)
    chosen = (best.values > -torch.inf)[..., None]
    candidates = boxes.gather(1, best.indices[..., None].expand(-1, -1, 4)).where(chosen, 0)
    count = chosen.sum(dim=1, dtype=boxes.dtype)
    return torch.where(count > 0, candidates.sum(dim=1) / count, fallback)
