"""How the two modalities of one level are brought together: CMD eq. 1 and 2, and plain addition."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from mmdistill._contracts import check_device, check_map, check_pair, check_same_shape
from mmdistill._transforms import savable
from mmdistill.pair import Pair

Interaction = Literal["sem", "cem", "add"]
"""The interaction at one level. Table 2's rows: SCFD sem sem sem cem; AFD add, SED sem, CED cem at all."""


def specific_enhanced(rgb: Tensor, tir: Tensor) -> Pair[Tensor]:
    """Enhance what is specific to each modality: ``rgb*tir + (rgb-tir)`` and ``rgb*tir + (tir-rgb)``.

    CMD eq. 1. Both maps have the same shape; so has each member of the result.
    """
    joint, difference = rgb * tir, rgb - tir
    return Pair(joint + difference, joint - difference)


def consistence_enhanced(rgb: Tensor, tir: Tensor) -> Tensor:
    """Enhance what the modalities have in common: ``rgb*tir + (rgb+tir)``, one map. CMD eq. 2."""
    return rgb * tir + (rgb + tir)


def interact(interaction: Interaction, pair: Pair[Tensor]) -> Pair[Tensor]:
    """Return what each modality's student imitates at a level; one map serves both but for ``"sem"``."""
    if interaction == "sem":
        return specific_enhanced(*pair)
    common = consistence_enhanced(*pair) if interaction == "cem" else pair.rgb + pair.tir
    return Pair(common, common)


class SEM(nn.Module):
    """Specific Enhanced Module, CMD eq. 1: a pair of ``(B, C, H, W)`` in, a pair of the same shape out.

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
    """Consistence Enhanced Module, CMD eq. 2: a pair of ``(B, C, H, W)`` in, one ``(B, C, H, W)`` out.

    Raises:
        ShapeError: the members are not maps of one shape.

    Example:
        >>> import torch
        >>> from mmdistill import CEM, Pair
        >>> CEM()(Pair(torch.tensor([[[[3.0]]]]), torch.tensor([[[[2.0]]]])))
        tensor([[[[11.]]]])
    """

    def forward(self, pair: Pair[Tensor]) -> Tensor:
        """Return the one consistence-enhanced map."""
        return consistence_enhanced(*check_modalities("CEM", pair))


def check_modalities(where: str, pair: Pair[Tensor]) -> Pair[Tensor]:
    """Return a pair, ``savable``, whose members are maps of one shape; refuse others."""
    check_pair(where, "input", pair)
    check_map(where, "rgb", pair[0])
    check_map(where, "tir", pair[1])
    check_same_shape(where, "tir", pair[1], pair[0], "rgb")
    check_device(where, "tir", pair[1], pair[0], "rgb")
    return Pair(*map(savable, pair))
