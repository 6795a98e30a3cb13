"""Interactions of the two modalities at one level: CMD eq. 1 and 2, and addition."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from mmdistill._checks.shapes import check_device, check_map, check_pair, check_same_shape
from mmdistill._execution import as_normal_tensor
from mmdistill.pair import Pair

Interaction = Literal["sem", "cem", "add"]
"""The interaction at one level. CMD's Table 2: SCFD is sem sem sem cem; AFD is add, SED sem, CED cem throughout."""


def specific_enhanced(rgb: Tensor, tir: Tensor) -> Pair[Tensor]:
    """Return ``rgb*tir + (rgb-tir)`` and ``rgb*tir + (tir-rgb)``, CMD eq. 1: each modality's features enhanced.

    Args:
        rgb: any shape.
        tir: the same shape.
    """
    joint, difference = rgb * tir, rgb - tir
    return Pair(joint + difference, joint - difference)


def consistence_enhanced(rgb: Tensor, tir: Tensor) -> Tensor:
    """Return ``rgb*tir + (rgb+tir)``, CMD eq. 2: one tensor of the features common to both modalities."""
    return rgb * tir + (rgb + tir)


def interact(interaction: Interaction, pair: Pair[Tensor]) -> Pair[Tensor]:
    """Return the target of each modality's student at a level; both have one target unless it is ``"sem"``."""
    if interaction == "sem":
        return specific_enhanced(*pair)
    common = consistence_enhanced(*pair) if interaction == "cem" else pair.rgb + pair.tir
    return Pair(common, common)


class SEM(nn.Module):
    """Specific Enhanced Module (SEM), CMD eq. 1: a pair of ``(B, C, H, W)`` in, a pair of the same shape out.

    Zhang et al., "Efficient RGB-T Tracking via Cross-Modality Distillation", CVPR 2023,
    https://doi.org/10.1109/CVPR52729.2023.00523.

    Raises:
        ShapeError: the members are not maps of one shape.

    Example:
        >>> import torch
        >>> from mmdistill import SEM, Pair
        >>> SEM()(Pair(torch.tensor([[[[3.0]]]]), torch.tensor([[[[2.0]]]])))
        Pair(rgb=tensor([[[[7.]]]]), tir=tensor([[[[5.]]]]))
    """

    def forward(self, pair: Pair[Tensor]) -> Pair[Tensor]:
        """Return the specific-enhanced pair."""
        return specific_enhanced(*check_modalities("SEM", pair))


class CEM(nn.Module):
    """Consistence Enhanced Module (CEM), CMD eq. 2: a pair of ``(B, C, H, W)`` in, one ``(B, C, H, W)`` out.

    Zhang et al., "Efficient RGB-T Tracking via Cross-Modality Distillation", CVPR 2023,
    https://doi.org/10.1109/CVPR52729.2023.00523.

    Raises:
        ShapeError: the members are not maps of one shape.

    Example:
        >>> import torch
        >>> from mmdistill import CEM, Pair
        >>> CEM()(Pair(torch.tensor([[[[3.0]]]]), torch.tensor([[[[2.0]]]])))
        tensor([[[[11.]]]])
    """

    def forward(self, pair: Pair[Tensor]) -> Tensor:
        """Return the consistence-enhanced map."""
        return consistence_enhanced(*check_modalities("CEM", pair))


def check_modalities(where: str, pair: Pair[Tensor]) -> Pair[Tensor]:
    """Return the pair as normal tensors; refuse members that are not maps of one shape and device."""
    check_pair(where, "input", pair)
    check_map(where, "rgb", pair[0])
    check_map(where, "tir", pair[1])
    check_same_shape(where, "tir", pair[1], pair[0], "rgb")
    check_device(where, "tir", pair[1], pair[0], "rgb")
    return Pair(*map(as_normal_tensor, pair))
