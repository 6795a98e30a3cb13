"""Bringing maps to another height and width, for a student and a teacher of different strides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from mmdistill._contracts import check_levels, check_map

Interpolation = Literal["bilinear", "nearest"]
"""How the positions of an axis that grows are filled."""

INTERPOLATIONS = get_args(Interpolation)  # once: PyTorch 2.6 cannot trace get_args


def resize_like(features: Tensor, like: Tensor, mode: Interpolation = "bilinear") -> Tensor:
    """Return the map at the height and width of another.

    An axis that shrinks is averaged (adaptive average pooling), so that every position counts and none is skipped,
    as interpolation would from a factor of 2 on; an axis that grows is interpolated. Each axis goes its own way:
    8x12 becomes 4x17. Both maps are taken to cover the same image from edge to edge.

    Resizing is a choice of the caller's: no loss resizes by itself. To bring the coarser map to the finer one's size
    invents detail; to bring the finer one to the coarser one's size compares what both have.

    Args:
        features: ``(B, C, h, w)``.
        like: a map ``(_, _, H, W)``; only its height and width are read.
        mode: how an axis that grows is interpolated.

    Returns:
        ``(B, C, H, W)``; the very same tensor where the size is right already.

    Raises:
        ShapeError: one of the two is no map.
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
        raise ValueError(f"resize_like: mode must be of {INTERPOLATIONS}; got {mode!r}")
    (h, w), (H, W) = features.shape[-2:], like.shape[-2:]
    if h > H or w > W:
        features = F.adaptive_avg_pool2d(features, (min(h, H), min(w, W)))
    if h < H or w < W:
        features = F.interpolate(features, size=(H, W), mode=mode)
    return features


def resize_levels(features: Sequence[Tensor], like: Sequence[Tensor], mode: Interpolation = "bilinear") -> list[Tensor]:
    """Return each level at the height and width of the other pyramid's; see ``resize_like``.

    Args:
        features: per level, a map ``(B, C, h, w)``.
        like: per level, a map ``(_, _, H, W)``.
        mode: how an axis that grows is interpolated.

    Raises:
        ShapeError: the pyramids differ in their number of levels, or hold what is no map.

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
