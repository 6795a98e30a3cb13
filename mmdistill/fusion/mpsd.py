"""The MPSD block, CMD eq. 4-6."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from mmdistill import _checks
from mmdistill.fusion.gate import Gate, check_gate, gated_sum, modality_gate, position_scores
from mmdistill.fusion.paths import FusedPaths, check_fusion_dtype, check_fusion_input
from mmdistill.fusion.selection import SelectionCheck
from mmdistill.pair import Pair
from mmdistill.precision import without_float16


def fusion_paths(pair: Pair[Tensor], gate: Tensor) -> Tensor:
    """Return the three paths ``(3, B, C, H, W)`` of CMD eq. 4 and 5: gated sum, product, difference.

    Args:
        pair: two maps ``(B, C, H, W)``.
        gate: ``(B, 2, H, W)``, the share of RGB and of TIR at each position.
    """
    rgb, tir = pair
    return torch.stack([gated_sum(pair, gate), rgb * tir, rgb - tir])


def weighted_paths(paths: Tensor, weights: Tensor) -> Tensor:
    """Return the paths' weighted sum ``(B, C, H, W)``, CMD eq. 6.

    Args:
        paths: ``(P, B, C, H, W)``.
        weights: ``(B, P)``, or ``(B, P, C)``.
    """
    axes = "b p" if weights.ndim == 2 else "b p c"
    return einsum(paths, weights, f"p b c h w, {axes} -> b c h w")


Normalize = Literal["paths", "layer_norm"]
"""How the paths' maxima are normalized before they are weighed."""

MIN_RMS = 1e-3
"""A path of a smaller rms is divided by this; with less, float16 gradients would overflow."""


def path_rms(paths: Tensor) -> Tensor:
    """Return the root mean square of each path's map, over channels and positions: ``(P, B)`` of ``(P, B, C, H, W)``.

    At least ``MIN_RMS``.
    """
    wide = torch.promote_types(paths.dtype, torch.float32)
    norm = torch.linalg.vector_norm(paths, dim=(2, 3, 4), dtype=wide)
    rms: Tensor = norm / math.sqrt(paths.shape[2] * paths.shape[3] * paths.shape[4])
    return rms.clamp(min=MIN_RMS)


class MPSDFusion(nn.Module):
    """Multi-Path Selection fusion of one level, CMD eq. 4-6; 3C^2 + 8C + 5 parameters.

    Three paths (spatially gated sum, product, difference) are weighed by a small network that looks at the
    global maximum of each and are summed. Under float16 autocast they stay in the parameters' type, float32,
    because the product of two features overflows from 256 on.

    Warns with ``DeadTermWarning``, once per block, when its selection has collapsed in training. Then one path had a
    weight of at least 0.99 for every sample of three batches, 100 training calls apart. Compiled code is not checked.

    Args:
        channels: channels C of either modality, and of the fused map.
        gate: ``"softmax"`` over the two modalities (the text), or ``"sigmoid"`` (the formula's symbol).
        weighting: ``"path"``, one weight per path and sample, or ``"channel"``, one per channel as well.
        normalize: what happens to the maxima that decide the weights. None: nothing, as published; trained without
            ``MPSDLoss``, one path then gets all the weight. ``"layer_norm"``: a layer norm over all 3C maxima of a
            sample, with 6C parameters; take it where you train without ``MPSDLoss``. ``"paths"``: each path's maxima
            are divided by the rms of its map, per sample; that did not help (docs/fusion.md, "Whether it selects").
            The paths that are summed are the same with each.

    Raises:
        ShapeError: the pair's members are not maps of one shape with C channels, of the parameters' number type
            (under autocast: float32 or autocast's own).

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
        gate: Gate = "softmax",
        weighting: Literal["path", "channel"] = "path",
        normalize: Normalize | None = None,
    ) -> None:
        super().__init__()
        channels = _checks.channels("MPSDFusion", "channels", channels)
        check_gate("MPSDFusion", gate)
        _checks.one_of("MPSDFusion", "weighting", weighting, ("path", "channel"))
        _checks.one_of("MPSDFusion", "normalize", normalize, (None, *get_args(Normalize)))
        self.channels, self.gate, self.weighting, self.normalize = channels, gate, weighting, normalize
        self.gate_convolution = nn.Conv2d(2 * channels, 2, 1)
        self.path_weights = nn.Sequential(
            nn.Linear(3 * channels, channels),
            nn.ReLU(),
            nn.Linear(channels, 3 if weighting == "path" else 3 * channels),
        )
        self.maxima_norm = nn.LayerNorm(3 * channels) if normalize == "layer_norm" else None
        self._selection_check = SelectionCheck()

    def forward(self, pair: Pair[Tensor]) -> FusedPaths:
        """Return the fused map, its paths and their weights."""
        pair = check_fusion_input("MPSDFusion", pair, self.channels, self.gate_convolution.weight)
        check_fusion_dtype("MPSDFusion", pair, self.gate_convolution.weight)
        with without_float16(pair[0].device.type):
            pair = Pair(*(member.to(self.gate_convolution.weight.dtype) for member in pair))
            gate = modality_gate(position_scores(self.gate_convolution, pair), self.gate)
            paths = fusion_paths(pair, gate)
            weights = self._weigh(paths)
            if self.training:
                self._selection_check(weights)
            return FusedPaths(weighted_paths(paths, weights), paths, weights)

    def _weigh(self, paths: Tensor) -> Tensor:
        """Return each path's share, softmax over the paths."""
        maxima = paths.amax(dim=(-2, -1))
        if self.normalize == "paths":
            maxima = (maxima / path_rms(paths)[..., None]).to(maxima.dtype)
        maxima = rearrange(maxima, "p b c -> b (p c)")
        if self.maxima_norm is not None:
            maxima = self.maxima_norm(maxima)
        scores: Tensor = self.path_weights(maxima)
        if self.weighting == "channel":
            scores = rearrange(scores, "b (p c) -> b p c", p=3)
        return scores.softmax(dim=1)
