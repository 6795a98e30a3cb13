"""The MPSD fusion block, CMD eq. 4-6, and measures of how it selects among its paths."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from mmdistill._checks.arguments import check_channels, check_choice
from mmdistill._checks.shapes import check_floating
from mmdistill._execution import can_read_values, is_channels_last
from mmdistill._numerics import to_float32, without_float16
from mmdistill.errors import DeadTermWarning, ShapeError, warn
from mmdistill.fusion.paths import (
    FusedPaths,
    Gate,
    check_fusion_dtype,
    check_fusion_input,
    check_gate,
    gated_sum,
    modality_gate,
    position_scores,
)
from mmdistill.pair import Pair

COLLAPSE_LIMIT = 0.99
"""A selection has collapsed if one path has at least this weight for every sample."""

CHECK_INTERVAL = 100
"""Training calls of a block between two checks of its selection."""

MIN_COLLAPSED_CHECKS = 3
"""Checks in a row that must find the same path before a block warns."""


class PathSelection(NamedTuple):
    """How a batch's samples select among P paths, as Python numbers.

    Attributes:
        mean_weights: each path's weight, mean over samples.
        entropy: entropy of a sample's weights, mean over samples, from 0 (one path has all) to 1 (equal weights).
        entropy_of_mean: entropy of ``mean_weights``; above ``entropy`` if samples select different paths.
        preferred: for each path, the fraction of samples in which it has the largest weight.
        collapsed: the path, counted from 0, that has at least 0.99 of the weight for every sample; or None.
    """

    mean_weights: tuple[float, ...]
    entropy: float
    entropy_of_mean: float
    preferred: tuple[float, ...]
    collapsed: int | None


def path_entropy(weights: Tensor) -> Tensor:
    """Return the entropy of each sample's path weights, ``(B,)``, divided by the largest possible, log P.

    It is 0 if one path has all the weight and 1 if all paths weigh the same. For weights per channel it is the mean
    over channels. Nothing is read from the device.

    Args:
        weights: ``FusedPaths.weights``: ``(B, P)`` or ``(B, P, C)``, P at least 2, not negative, of sum 1 over P.

    Raises:
        ShapeError: another shape, or a dtype that is not floating point.

    Example:
        >>> import torch
        >>> from mmdistill import path_entropy
        >>> path_entropy(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]))
        tensor([0.0000, 0.6309])
    """
    _check("path_entropy", weights)
    entropy: Tensor = torch.special.entr(weights).sum(dim=1) / math.log(weights.shape[1])
    return entropy if entropy.ndim == 1 else entropy.mean(dim=1)


def path_selection(weights: Tensor) -> PathSelection:
    """Return how the samples of a batch select among their paths. It reads from the device, so log it rarely.

    Weights per channel are averaged over channels, but ``entropy`` and ``collapsed`` use each channel.

    Args:
        weights: as in ``path_entropy``. Concatenate several batches for more exact figures.

    Raises:
        ShapeError: another shape, or a dtype that is not floating point.

    Example:
        >>> import torch
        >>> from mmdistill import path_selection
        >>> selection = path_selection(torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
        >>> selection.preferred, selection.entropy, selection.collapsed
        ((0.0, 1.0, 0.0), 0.0, 1)
    """
    _check("path_selection", weights)
    detached = to_float32(weights.detach())
    by_path = detached if detached.ndim == 2 else detached.mean(dim=2)
    mean = by_path.mean(dim=0)
    preferred = torch.nn.functional.one_hot(by_path.argmax(dim=1), by_path.shape[1]).to(mean.dtype).mean(dim=0)
    entropies = path_entropy(detached).mean()[None], path_entropy(mean[None])
    # One vector, so that there is one read.
    paths, numbers = len(mean), torch.cat([mean, preferred, *entropies, _smallest(detached)]).tolist()
    return PathSelection(
        tuple(numbers[:paths]),
        numbers[2 * paths],
        numbers[2 * paths + 1],
        tuple(numbers[paths : 2 * paths]),
        _collapsed(numbers[2 * paths + 2 :]),
    )


class SelectionCheck:
    """Warns if a block's selection has collapsed. It reads from the device at every hundredth training call only."""

    def __init__(self) -> None:
        self._calls = self._repeats = 0
        self._path: int | None = None
        self._warned = False

    def __call__(self, weights: Tensor) -> None:
        """Count a training call; at every hundredth check its weights, ``(B, P)`` or ``(B, P, C)``."""
        if self._warned or not torch.is_grad_enabled() or not can_read_values((weights,)):
            return
        self._calls += 1
        if self._calls % CHECK_INTERVAL:
            return
        path = _collapsed(_smallest(weights.detach()).tolist())
        self._repeats = self._repeats + 1 if path == self._path else 1
        self._path = path
        if path is not None and self._repeats >= MIN_COLLAPSED_CHECKS:
            self._warned = True
            warn(
                f"MPSDFusion: the selection has collapsed: path {path} of {weights.shape[1]} (0 gated sum, 1 product, "
                f"2 difference) has a weight of at least {COLLAPSE_LIMIT} for every sample, so the other paths learn "
                'nothing; train with MPSDLoss, or use normalize="layer_norm"',
                DeadTermWarning,
            )


def _smallest(weights: Tensor) -> Tensor:
    """Return each path's smallest weight over samples and channels, ``(P,)``."""
    return weights.amin(dim=0 if weights.ndim == 2 else (0, 2))


def _collapsed(smallest: list[float]) -> int | None:
    return next((path for path, weight in enumerate(smallest) if weight >= COLLAPSE_LIMIT), None)


def _check(where: str, weights: Tensor) -> None:
    if not isinstance(weights, Tensor):
        raise ShapeError(where, "weights", "type", expected="a tensor (B, P)", got=type(weights).__name__)
    if weights.ndim not in (2, 3):
        raise ShapeError(where, "weights", "axes", expected="2 (B, P) or 3 (B, P, C)", got=tuple(weights.shape))
    for axis, least in (("batch", 1), ("paths", 2), ("channels", 1))[: weights.ndim]:
        size = weights.shape[("batch", "paths", "channels").index(axis)]
        if size < least:
            raise ShapeError(where, "weights", axis, expected=f"at least {least}", got=size)
    check_floating(where, "weights", weights)


def fusion_paths(pair: Pair[Tensor], gate: Tensor) -> Tensor:
    """Return the three paths ``(3, B, C, H, W)`` of CMD eq. 4 and 5: gated sum, product, difference; in RGB's layout.

    Args:
        pair: two maps ``(B, C, H, W)``.
        gate: ``(B, 2, H, W)``, the gates of RGB and TIR at each position.
    """
    rgb, tir = pair
    paths = [gated_sum(pair, gate), rgb * tir, rgb - tir]
    if is_channels_last(rgb):  # stack() alone would change the layout
        return torch.stack([path.permute(0, 2, 3, 1) for path in paths]).permute(0, 1, 4, 2, 3)
    return torch.stack(paths)


def weighted_paths(paths: Tensor, weights: Tensor) -> Tensor:
    """Return the paths' weighted sum ``(B, C, H, W)``, CMD eq. 6.

    Args:
        paths: ``(P, B, C, H, W)``.
        weights: ``(B, P)``, or ``(B, P, C)``.
    """
    if weights.ndim == 3:
        return einsum(paths, weights, "p b c h w, b p c -> b c h w")
    # One product for each sample, of paths in any order of channels and positions: nothing is copied.
    channels_last = is_channels_last(paths[0])
    flat = (paths.permute(0, 1, 3, 4, 2) if channels_last else paths).flatten(2)
    batch, channels, height, width = paths.shape[1:]
    fused = (weights[:, None] @ flat.transpose(0, 1))[:, 0]
    if channels_last:
        return fused.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return fused.view(batch, channels, height, width)


Normalize = Literal["paths", "layer_norm"]
"""How the paths' maxima are normalized before the weighing network."""

MIN_RMS = 1e-3
"""Smallest rms that a path is divided by; smaller ones would overflow float16 gradients."""


def path_rms(paths: Tensor) -> Tensor:
    """Return the root mean square, at least ``MIN_RMS``, of each path: ``(P, B)`` of ``(P, B, C, H, W)``."""
    wide = torch.promote_types(paths.dtype, torch.float32)
    norm = torch.linalg.vector_norm(paths, dim=(2, 3, 4), dtype=wide)
    rms: Tensor = norm / math.sqrt(paths.shape[2] * paths.shape[3] * paths.shape[4])
    return rms.clamp(min=MIN_RMS)


class MPSDFusion(nn.Module):
    """Multi-Path Selection fusion of one level, CMD eq. 4-6; 3C^2 + 8C + 5 parameters.

    A small network weighs three paths (spatially gated sum, product, difference) by their global maxima; the fused map
    is their weighted sum. Under float16 autocast the block computes in the parameters' dtype: a product of two
    features overflows float16 from 256 on.

    A ``DeadTermWarning``, once per block, says that its selection has collapsed in training: one path had a weight of
    at least 0.99 for every sample of three batches, 100 training calls apart. Compiled code is not checked.

    Zhang et al., "Efficient RGB-T Tracking via Cross-Modality Distillation", CVPR 2023,
    https://doi.org/10.1109/CVPR52729.2023.00523.

    Args:
        channels: channels C of either modality, and of the fused map.
        gate: ``"softmax"`` over the two modalities (the paper's text), or ``"sigmoid"`` (its formula).
        weighting: ``"path"``, one weight per path and sample, or ``"channel"``, one per channel as well.
        normalize: how the maxima are normalized; the paths themselves are not. None: as published; without
            ``MPSDLoss`` one path then gets all the weight. ``"layer_norm"``: a layer norm over a sample's 3C maxima,
            with 6C parameters; use it if you train without ``MPSDLoss``. ``"paths"``: a path's maxima are divided by
            the rms of its map, per sample; that did not help (docs/fusion.md, "Path collapse").

    Raises:
        ShapeError: the members are not maps of one shape with C channels and of the parameters' dtype (under autocast:
            float32 or autocast's own).

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
        channels = check_channels("MPSDFusion", "channels", channels)
        check_gate("MPSDFusion", gate)
        check_choice("MPSDFusion", "weighting", weighting, ("path", "channel"))
        check_choice("MPSDFusion", "normalize", normalize, (None, *get_args(Normalize)))
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
        """Return the paths' weights, of sum 1: ``(B, 3)`` or ``(B, 3, C)``."""
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
