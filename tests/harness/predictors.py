"""Small box predictors, as a tracker of the user's would have: what they are given they check themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmdistill import BBEDistiller, Terms
from mmdistill._checks.shapes import check_axes
from mmdistill._numerics import to_float32


def modulated(modulation: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
    """Return ``(B, 2)``: one number of each level, of the features weighted by the modulation."""
    batch = modulation[0].shape[0]
    means = []
    for number, (vector, level) in enumerate(zip(modulation, features, strict=True), start=1):
        check_axes("predictor", f"modulation {number}", vector, ("batch", "channels", "height", "width"))
        like = {"batch": (batch, "modulation"), "channels": (vector.shape[1], "modulation")}
        check_axes("predictor", f"features {number}", level, ("batch", "channels", "height", "width"), like)
        means.append((to_float32(vector) * to_float32(level)).mean(dim=(1, 2, 3)))
    channels, (rows, columns) = modulation[0].shape[1], features[0].shape[2:]
    half = {
        "channels": (2 * channels, "level 1"),
        "height": (-(-rows // 2), "half"),
        "width": (-(-columns // 2), "half"),
    }
    check_axes("predictor", "features 2", features[1], ("batch", "channels", "height", "width"), half)
    check_axes(
        "predictor", "modulation 2", modulation[1], ("batch", "channels", "1", "1"), {"channels": half["channels"]}
    )
    return torch.stack(means, dim=1)


def overlaps(modulation: Sequence[Tensor], features: Sequence[Tensor], proposals: Tensor) -> Tensor:
    """Return ``(B, P)``, linear in the boxes ``(B, P, 4)``."""
    seen = modulated(modulation, features)
    check_axes("predictor", "proposals", proposals, ("batch", "boxes", "4"), {"batch": (seen.shape[0], "modulation")})
    return seen.sum(dim=1)[:, None] + (proposals / 20).mean(dim=-1)


def states(modulation: Sequence[Tensor], features: Sequence[Tensor], proposals: None) -> Tensor:
    """Return ``(B, 4)``."""
    assert proposals is None
    return modulated(modulation, features).repeat(1, 2)


class Overlaps(nn.Module):
    """The same as ``overlaps``, with weights to learn."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(c, c, 1) for c in (channels, 2 * channels))

    def forward(self, modulation: Sequence[Tensor], features: Sequence[Tensor], proposals: Tensor) -> Tensor:
        for number, (vector, level) in enumerate(zip(modulation, features, strict=True), start=1):
            check_axes("predictor", f"features {number}", level, ("batch", "channels", "height", "width"))
            like = {"batch": (level.shape[0], "features"), "channels": (level.shape[1], "features")}
            check_axes("predictor", f"modulation {number}", vector, ("batch", "channels", "height", "width"), like)
        return overlaps(modulation, [level(x) for level, x in zip(self.levels, features, strict=True)], proposals)


class WithPredictor(nn.Module):
    """A tracker's predictor and, beside it, the distiller that calls but doesn't own it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.predictor = Overlaps(channels)
        self.distiller = BBEDistiller(self.predictor, scale="unit")

    def forward(
        self, modulation: Sequence[Tensor], features: Sequence[Tensor], proposals: Tensor, target: Tensor
    ) -> Terms:
        terms: Terms = self.distiller(modulation, features, proposals, target)
        return terms
