"""Resizing of maps, for a student and a teacher of different strides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from mmdistill._checks.arguments import argument_error
from mmdistill._checks.shapes import check_levels, check_map

Interpolation = Literal["bilinear", "nearest"]
"""How an axis that grows is interpolated."""

INTERPOLATIONS = get_args(Interpolation)  # a constant, because PyTorch 2.6 cannot trace get_args


def resize_like(features: Tensor, like: Tensor, mode: Interpolation = "bilinear") -> Tensor:
    """Return a map resized to another map's height and width.

    An axis that shrinks is averaged (adaptive average pooling), so that every position counts; an axis that grows is
    interpolated. The axes are independent: 8x12 may become 4x17. Both maps must cover the same image region.

    No loss resizes by itself. Prefer to resize the finer map to the coarser one's size: the other way round,
    interpolation invents detail.

    Args:
        features: ``(B, C, h, w)``.
        like: a map ``(_, _, H, W)``; only its height and width are used.
        mode: how an axis that grows is interpolated.

    Returns:
        ``(B, C, H, W)``; the same tensor if its size is right.

    Raises:
        ShapeError: ``features`` or ``like`` is no map.
        ValueError: an unknown mode.

    Example:
        >>> import torch
        >>> from mmdistill.resize import resize_like
        >>> resize_like(torch.tensor([[[[1.0, 3.0, 5.0, 7.0]]]]), torch.zeros(1, 1, 1, 2))
        tensor([[[[2., 6.]]]])
    """
    check_map("resize_like", "features", features)
    check_map("resize_like", "like", like, floating=False)
    if mode not in INTERPOLATIONS:
        raise argument_error("resize_like", "mode", f"one of {', '.join(INTERPOLATIONS)}", mode)
    (h, w), (H, W) = features.shape[-2:], like.shape[-2:]
    if h > H or w > W:
        features = F.adaptive_avg_pool2d(features, (min(h, H), min(w, W)))
    if h < H or w < W:
        features = F.interpolate(features, size=(H, W), mode=mode)
    return features


def resize_levels(features: Sequence[Tensor], like: Sequence[Tensor], mode: Interpolation = "bilinear") -> list[Tensor]:
    """Return each level resized to the height and width of the other pyramid's level; see ``resize_like``.

    Args:
        features: per level, a map ``(B, C, h, w)``.
        like: per level, a map ``(_, _, H, W)``.
        mode: how an axis that grows is interpolated.

    Raises:
        ShapeError: the pyramids differ in their number of levels, or a level is no map.

    Example:
        >>> import torch
        >>> from mmdistill.resize import resize_levels
        >>> student = [torch.zeros(2, 8, 16, 24), torch.zeros(2, 16, 8, 12)]
        >>> teacher = [torch.zeros(2, 32, 8, 12), torch.zeros(2, 64, 8, 12)]
        >>> [tuple(level.shape) for level in resize_levels(student, teacher)]
        [(2, 8, 8, 12), (2, 16, 8, 12)]
    """
    check_levels("resize_levels", "like", like)
    check_levels("resize_levels", "features", features, len(like))
    return [resize_like(level, other, mode) for level, other in zip(features, like, strict=True)]
