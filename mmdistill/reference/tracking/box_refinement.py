"""Box refinement: boxes around the target climb the predicted IoU, the best are averaged.

Danelljan et al., ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmdistill.reference.models.iou_gradient import (
    IoUFunction,
    full_map_iou,
    level_windows,
    windowed_iou,
    windows_contain,
)
from mmdistill.reference.models.iou_net import IoUNet, Modulation
from mmdistill.reference.tracking.settings import RefinementSettings

MARGINS = (8.0, 32.0)
"""How far around the start boxes a frame is looked at, crop pixels; further where boxes climbed out of it."""


class Climb(NamedTuple):
    """Where gradient ascent led.

    Attributes:
        boxes: ``(S, K, 4)``.
        iou: as predicted before the last step, ``(S, K)``.
        asked: all boxes whose IoU was asked on the way, ``(S, steps * K, 4)``; the start without steps.
    """

    boxes: Tensor
    iou: Tensor
    asked: Tensor


@torch.no_grad()
def refine(
    iou_net: IoUNet,
    modulation: Modulation,
    level3: Tensor,
    level4: Tensor,
    boxes: Tensor,
    jitter: Tensor,
    settings: RefinementSettings,
) -> Tensor:
    """Return the refined boxes ``(S, 4)``; a box that leads to none of sound shape comes back as it is.

    The frame's IoU features are computed here. On the CPU that is where the boxes are, which gives the same boxes as
    the whole map; other devices compute the whole map, so that nobody waits to be told where.

    Args:
        iou_net: in eval mode.
        modulation: what the target is, vectors ``(S, C, 1, 1)``.
        level3: the frame's fused map at stride 8, ``(S, C3, H, W)``.
        level4: at stride 16, ``(S, C4, H / 2, W / 2)``.
        boxes: where to start, one per sequence, ``(S, 4)`` as ``x y w h``, crop pixels.
        jitter: uniform in -1 to 1, ``(S, random_boxes, 4)``: center and size of the other start boxes.
        settings: steps and limits.
    """
    start = start_boxes(boxes, jitter, settings)
    levels = (level3, level4)
    climbed = _climb_in_windows(iou_net, modulation, levels, start, settings) if boxes.device.type == "cpu" else None
    if climbed is None:
        climbed = climb(full_map_iou(iou_net, modulation, levels), start, settings)
    return best(climbed.boxes, climbed.iou, boxes, settings)


def _climb_in_windows(
    iou_net: IoUNet, modulation: Modulation, levels: Sequence[Tensor], start: Tensor, settings: RefinementSettings
) -> Climb | None:
    """Return what ``climb`` does, looking around the start boxes only; None where that doesn't pay or they leave."""
    for margin in MARGINS:
        windows = level_windows(start, margin, levels)
        if windows is None:
            return None
        climbed = climb(windowed_iou(iou_net, modulation, levels, windows), start, settings)
        if windows_contain(windows, climbed.asked, levels):
            return climbed
    return None


def start_boxes(boxes: Tensor, jitter: Tensor, settings: RefinementSettings) -> Tensor:
    """Return each box and its jittered copies, ``(S, 1 + random_boxes, 4)``; arguments as in ``refine``."""
    size = boxes[:, None, 2:]
    root = size.prod(dim=-1, keepdim=True).sqrt()
    smallest = settings.minimum_start_side * size.amin(dim=-1, keepdim=True)
    center = boxes[:, None, :2] + size / 2 + settings.center_jitter * root * jitter[..., :2]
    sides = torch.maximum(size + settings.size_jitter * root * jitter[..., 2:], smallest)
    return torch.cat([boxes[:, None], torch.cat([center - sides / 2, sides], dim=-1)], dim=1)


def climb(iou_and_gradient: IoUFunction, boxes: Tensor, settings: RefinementSettings) -> Climb:
    """Return where boxes ``(S, K, 4)`` come by gradient ascent."""
    iou = boxes.new_zeros(boxes.shape[:2])
    asked: list[Tensor] = []
    for _ in range(settings.steps):
        asked.append(boxes)
        iou, gradient = iou_and_gradient(boxes)
        boxes = boxes + settings.step_length * gradient * boxes[..., 2:].repeat(1, 1, 2)
        boxes[..., 2:].clamp_(min=settings.minimum_side)
    return Climb(boxes, iou, torch.cat(asked or [boxes], dim=1))


def best(boxes: Tensor, iou: Tensor, otherwise: Tensor, settings: RefinementSettings) -> Tensor:
    """Return the mean of each sequence's best boxes, ``(S, 4)``.

    Args:
        boxes: ``(S, K, 4)``; those too long for their width, or the reverse, are dropped.
        iou: ``(S, K)``.
        otherwise: the result where none is left, ``(S, 4)``.
        settings: how many are averaged, and the limit.
    """
    aspect = boxes[..., 2:].amax(dim=-1) / boxes[..., 2:].amin(dim=-1)
    sound = (aspect <= settings.maximum_aspect) & boxes.isfinite().all(dim=-1)
    order = iou.masked_fill(~sound, -torch.inf).argsort(dim=-1, descending=True)[:, : settings.averaged]
    chosen = sound.gather(1, order)[..., None]
    candidates = boxes.gather(1, order[..., None].expand(-1, -1, 4)).where(chosen, 0)
    count = chosen.sum(dim=1)
    return torch.where(count > 0, candidates.sum(dim=1) / count.clamp(min=1), otherwise)
