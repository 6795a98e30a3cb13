"""Box refinement: boxes around the target climb the predicted IoU, the best are averaged.

Danelljan et al., ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mmdistill.reference.tracking.settings import RefinementSettings

Predictor = Callable[[Tensor], Tensor]
"""From boxes ``(S, K, 4)``, ``x y w h`` in crop pixels, to their predicted IoU ``(S, K)`` on any scale."""


def refine(predict: Predictor, boxes: Tensor, generator: np.random.Generator, settings: RefinementSettings) -> Tensor:
    """Return the refined boxes ``(S, 4)``; a box that leads to none of sound shape comes back as it is.

    Args:
        predict: must be differentiable in the boxes.
        boxes: where to start, one per sequence, ``(S, 4)`` as ``x y w h``, crop pixels.
        generator: draws the other start boxes.
        settings: steps and limits.
    """
    start = start_boxes(boxes, generator, settings)
    refined, iou = climb(predict, start, settings)
    return best(refined, iou, boxes, settings)


def start_boxes(boxes: Tensor, generator: np.random.Generator, settings: RefinementSettings) -> Tensor:
    """Return each box and its jittered copies, ``(S, 1 + random_boxes, 4)``; arguments as in ``refine``."""
    shape = (len(boxes), settings.random_boxes, 4)
    jitter = torch.from_numpy(generator.uniform(-1, 1, shape)).to(boxes)
    size = boxes[:, None, 2:]
    root = size.prod(dim=-1, keepdim=True).sqrt()
    smallest = settings.minimum_start_side * size.amin(dim=-1, keepdim=True)
    centre = boxes[:, None, :2] + size / 2 + settings.centre_jitter * root * jitter[..., :2]
    sides = torch.maximum(size + settings.size_jitter * root * jitter[..., 2:], smallest)
    return torch.cat([boxes[:, None], torch.cat([centre - sides / 2, sides], dim=-1)], dim=1)


def climb(predict: Predictor, boxes: Tensor, settings: RefinementSettings) -> tuple[Tensor, Tensor]:
    """Return boxes ``(S, K, 4)`` after gradient ascent, and their IoU ``(S, K)`` as predicted before the last step."""
    iou = boxes.new_zeros(boxes.shape[:2])
    for _ in range(settings.steps):
        with torch.enable_grad():
            boxes = boxes.detach().requires_grad_()
            iou = predict(boxes)
            (gradient,) = torch.autograd.grad(iou.sum(), boxes)
        boxes = boxes.detach()
        boxes = boxes + settings.step_length * gradient * boxes[..., 2:].repeat(1, 1, 2)
        boxes[..., 2:].clamp_(min=settings.minimum_side)
    return boxes, iou.detach()


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
