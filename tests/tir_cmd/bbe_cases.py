"""Inputs of the BBE distiller that its tests share."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmdistill import Terms


class Predictor(nn.Module):
    """Overlaps of proposals, of a modulation of two parts and one map."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 1)
        self.asked: Any = None

    def forward(self, modulation: Any, features: Tensor, proposals: Tensor) -> Tensor:
        self.asked = modulation
        seen = (modulation[0] * features).mean(dim=(2, 3)) + modulation[1]
        count = proposals.shape[-2]
        joined = torch.cat([seen[:, None].expand(-1, count, -1), proposals / 20], dim=-1)
        return self.layer(joined).squeeze(-1)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    return shared / float(np.prod(first[2:]) + np.prod(second[2:]) - shared)


class Given:
    """A batch of two, six proposals each."""

    def __init__(self, proposals: int = 6) -> None:
        torch.manual_seed(0)
        self.predictor = Predictor().double()
        self.modulation = (
            torch.randn(2, 3, 1, 1, dtype=torch.float64, requires_grad=True),
            torch.randn(2, 3, dtype=torch.float64, requires_grad=True),
        )
        self.features = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
        self.box = torch.tensor([[2.0, 3.0, 8.0, 6.0], [5.0, 1.0, 4.0, 9.0]], dtype=torch.float64)
        noise = torch.randn(2, proposals, 4, dtype=torch.float64)
        self.proposals = (self.box[:, None] + noise).clamp(min=0.5)

    @property
    def overlaps(self) -> np.ndarray:
        pairs = zip(self.proposals.numpy(), self.box.numpy(), strict=True)
        return np.array([[overlap(proposal, box) for proposal in boxes] for boxes, box in pairs])

    def terms(self, loss: nn.Module, target: Tensor | None = None) -> Terms:
        terms: Terms = loss(self.modulation, self.features, self.proposals, self.box if target is None else target)
        return terms


def states(modulation: Tensor, features: Tensor, proposals: Tensor | None) -> Tensor:
    """One state a sample, or one a proposal."""
    state = (modulation * features).mean(dim=(2, 3))
    return state if proposals is None else state[:, None] + proposals
