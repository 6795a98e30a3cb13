"""How far scores are from their label: the residual that is neither loss's own."""

from __future__ import annotations

import torch
from torch import Tensor


def hinge_residual(prediction: Tensor, label: Tensor, threshold: float) -> Tensor:
    """Return DiMP's hinge-like residual: where the label is below the threshold only scores above 0 count.

    Bhat et al., DiMP, ICCV 2019: ``prediction - label`` on the target, ``max(prediction, 0)`` elsewhere.
    """
    return torch.where(label < threshold, prediction.clamp(min=0), prediction - label)
