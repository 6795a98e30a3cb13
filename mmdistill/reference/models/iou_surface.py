"""A test frame's predicted IoU as a function of boxes, with its gradient: on the whole map, or where boxes can reach.

Both give the same values. Pooling is linear, so maps are modulated once instead of all boxes at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from mmdistill.reference.models.box_gradient import (
    PooledLevel,
    Reach,
    covers,
    for_inference,
    iou_and_gradient,
    projected_level,
    reach_around,
    window_features,
)
from mmdistill.reference.models.iou_net import STRIDES, TEST_BINS, IoUNet, Modulation

IoUAndGradient = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From boxes ``(S, K, 4)``, ``x y w h`` in crop pixels, to their predicted IoU ``(S, K)`` and its gradient in them."""


def whole_maps(iou_net: IoUNet, modulation: Modulation, levels: Sequence[Tensor]) -> IoUAndGradient:
    """Return the IoU of any boxes.

    Args:
        iou_net: in eval mode.
        modulation: what the target is, vectors ``(S, C, 1, 1)``.
        levels: the frame's levels 3 and 4, ``(S, C, H, W)``.
    """
    features = iou_net.features(*levels)
    blocks = (iou_net.box_level3, iou_net.box_level4)
    pooled = [
        PooledLevel(_modulated(x, vector), for_inference(block), stride, bins)
        for x, vector, block, stride, bins in zip(features, modulation, blocks, STRIDES, TEST_BINS, strict=True)
    ]
    return partial(iou_and_gradient, pooled, iou_net.predictor)


def reaches_around(boxes: Tensor, margin: float, levels: Sequence[Tensor]) -> list[Reach] | None:
    """Return what boxes ``(S, K, 4)`` can touch on either level; None where the whole map costs no more."""
    reaches = [
        reach_around(boxes, margin, bins, stride, _size(level))
        for level, stride, bins in zip(levels, STRIDES, TEST_BINS, strict=True)
    ]
    known = [reach for reach in reaches if reach is not None]
    return known if len(known) == len(reaches) else None


def in_reach(
    iou_net: IoUNet, modulation: Modulation, levels: Sequence[Tensor], reaches: Sequence[Reach]
) -> IoUAndGradient:
    """Return the IoU of boxes that touch only what is in reach; the other arguments as in :func:`whole_maps`."""
    convolutions = (iou_net.test_level3, iou_net.test_level4)
    blocks = (iou_net.box_level3, iou_net.box_level4)
    projected = [
        projected_level(
            _modulated(window_features(convolution, level, reach.window), vector), for_inference(block), reach, stride
        )
        for convolution, level, reach, vector, block, stride in zip(
            convolutions, levels, reaches, modulation, blocks, STRIDES, strict=True
        )
    ]
    return partial(iou_and_gradient, projected, iou_net.predictor)


def all_cover(reaches: Sequence[Reach], boxes: Tensor, levels: Sequence[Tensor]) -> bool:
    """Say whether boxes ``(S, K, 4)`` touch only what is in reach."""
    return all(
        covers(reach, boxes, stride, _size(level))
        for reach, level, stride in zip(reaches, levels, STRIDES, strict=True)
    )


def _modulated(features: Tensor, vector: Tensor) -> Tensor:
    """Return ``(S, H, W, C)``."""
    return (features * vector).permute(0, 2, 3, 1).contiguous()


def _size(level: Tensor) -> tuple[int, int]:
    """Return a map's columns and rows."""
    return level.shape[-1], level.shape[-2]
