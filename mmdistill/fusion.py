"""Fusing the two modalities of one level in the student: the MPSD block, CMD eq. 4-6."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from mmdistill.errors import ShapeError, check_map
from mmdistill.interaction import check_modalities
from mmdistill.pair import Pair


class FusedPaths(NamedTuple):
    """A fused map and how it came about.

    Attributes:
        fused: ``(B, C, H, W)``.
        paths: the paths' maps ``(3, B, C, H, W)``: gated sum, product, difference.
        weights: each path's share, ``(B, 3)``, or ``(B, 3, C)`` where channels are weighed one by one.
    """

    fused: Tensor
    paths: Tensor
    weights: Tensor


def fusion_paths(pair: Pair[Tensor], gate: Tensor) -> Tensor:
    """Return the three paths ``(3, B, C, H, W)`` of CMD eq. 4 and 5.

    Args:
        pair: two maps ``(B, C, H, W)``.
        gate: ``(B, 2, H, W)``, the share of RGB and of TIR at each position.
    """
    gated = pair.rgb * gate[:, :1] + pair.tir * gate[:, 1:]
    return torch.stack([gated, pair.rgb * pair.tir, pair.rgb - pair.tir])


def weighted_paths(paths: Tensor, weights: Tensor) -> Tensor:
    """Return the paths' weighted sum ``(B, C, H, W)``, CMD eq. 6.

    Args:
        paths: ``(3, B, C, H, W)``.
        weights: ``(B, 3)``, or ``(B, 3, C)``.
    """
    axes = "b p" if weights.ndim == 2 else "b p c"
    return einsum(paths, weights, f"p b c h w, {axes} -> b c h w")


class MPSDFusion(nn.Module):
    """Multi-Path Selection fusion of one level, CMD eq. 4-6; 4C + 3C^2 + 4C + 5 parameters.

    Three paths (spatially gated sum, product, difference) are weighed by a small network that looks at the
    global maximum of each and are summed.

    Args:
        channels: channels C of either modality, and of the fused map.
        gate: ``"softmax"`` over the two modalities (the text), or ``"sigmoid"`` (the formula's symbol).
        weighting: ``"path"``, one weight per path and sample, or ``"channel"``, one per channel as well.

    Raises:
        ShapeError: the pair's members are not maps of one shape with C channels.

    Example:
        >>> import torch
        >>> from mmdistill import MPSDFusion, Pair
        >>> fused, paths, weights = MPSDFusion(8)(Pair(torch.ones(2, 8, 4, 6), torch.zeros(2, 8, 4, 6)))
        >>> tuple(fused.shape), tuple(paths.shape), tuple(weights.shape)
        ((2, 8, 4, 6), (3, 2, 8, 4, 6), (2, 3))
    """

    def __init__(
        self,
        channels: int,
        *,
        gate: Literal["softmax", "sigmoid"] = "softmax",
        weighting: Literal["path", "channel"] = "path",
    ) -> None:
        super().__init__()
        _check_choice("gate", gate, ("softmax", "sigmoid"))
        _check_choice("weighting", weighting, ("path", "channel"))
        self.channels, self.gate, self.weighting = channels, gate, weighting
        self.gate_convolution = nn.Conv2d(2 * channels, 2, 1)
        self.path_weights = nn.Sequential(
            nn.Linear(3 * channels, channels),
            nn.ReLU(),
            nn.Linear(channels, 3 if weighting == "path" else 3 * channels),
        )

    def forward(self, pair: Pair[Tensor]) -> FusedPaths:
        """Return the fused map, its paths and their weights."""
        check_modalities("MPSDFusion", pair)
        check_map("MPSDFusion", "rgb", pair[0], channels=self.channels)
        gate = self.gate_convolution(torch.cat(pair, dim=1))
        gate = gate.softmax(dim=1) if self.gate == "softmax" else gate.sigmoid()
        paths = fusion_paths(pair, gate)
        weights = self.path_weights(rearrange(paths.amax(dim=(-2, -1)), "p b c -> b (p c)"))
        if self.weighting == "channel":
            weights = rearrange(weights, "b (p c) -> b p c", p=3)
        weights = weights.softmax(dim=1)
        return FusedPaths(weighted_paths(paths, weights), paths, weights)


def check_fused_paths(where: str, side: str, fused: FusedPaths, channels: int) -> None:
    """Refuse what an MPSD block of these channels can't have made."""
    if not isinstance(fused, FusedPaths):
        raise ShapeError(where, side, "type", expected="FusedPaths", got=type(fused).__name__)
    check_map(where, f"{side} fused", fused.fused, channels=channels)
    batch = fused.fused.shape[0]
    if fused.paths.shape != (3, *fused.fused.shape):
        like = (3, *fused.fused.shape)
        raise ShapeError(where, f"{side} paths", "shape", expected=like, got=tuple(fused.paths.shape))
    if fused.weights.shape not in ((batch, 3), (batch, 3, channels)):
        expected = f"({batch}, 3) or ({batch}, 3, {channels})"
        raise ShapeError(where, f"{side} weights", "shape", expected=expected, got=tuple(fused.weights.shape))


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"MPSDFusion: {name} must be one of {', '.join(choices)}; got {value!r}")
