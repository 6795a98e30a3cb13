"""Models that taps listen to, plain and compiled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

COMPILING = [
    pytest.mark.usefixtures("fresh_compiler"),
    # What torch's own compiler says while it works.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
"""Marks of every test that may compile."""

IMAGES = (2, 3, 8, 12)


class Residual(nn.Module):
    """What follows each tapped layer overwrites its output: an in-place ReLU, and a sum in place."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.branch = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))

    def forward(self, images: Tensor) -> Tensor:
        shortcut = self.relu(self.norm(self.stem(images)))
        features = self.branch(shortcut)
        features += shortcut
        return self.relu(features)

    def by_hand(self, images: Tensor) -> dict[str, Tensor]:
        """The same without anything in place: each layer's output by name."""
        norm = self.norm(self.stem(images))
        branch = self.branch(F.relu(norm))
        return {"norm": norm, "branch": branch, "": F.relu(branch + F.relu(norm))}


def compiled(model: nn.Module, backend: str | Callable[..., object] = "eager") -> nn.Module:
    return torch.compile(model, backend=backend)  # type: ignore[return-value]


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def compiled_within(model: nn.Module) -> nn.Module:
    model.branch = compiled(model.branch)  # type: ignore[arg-type]
    return model


def compiled_twice(model: nn.Module) -> nn.Module:
    return compiled(compiled_within(model))


def count_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
