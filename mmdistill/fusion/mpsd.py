"""The MPSD block, CMD eq. 4-6.

How a block selects among its paths: the entropy of the weights, each share, and whether one path has it all.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from mmdistill import _checks
from mmdistill._contracts import check_floating
from mmdistill._numerics import to_float32, without_float16
from mmdistill._transforms import has_values
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
"""The selection is collapsed where one path has at least this weight for every sample."""

CHECK_INTERVAL = 100
"""Training calls of a block between two checks of its selection."""

MIN_COLLAPSED_CHECKS = 3
"""Checks in a row that must find the same path before a block warns."""


class PathSelection(NamedTuple):
    """How a batch's samples select among P paths, as plain numbers.

    Attributes:
        mean_weights: each path's weight, mean over samples.
        entropy: of each sample's weights, mean over samples, from 0 (one path alone) to 1 (all alike).
        entropy_of_mean: of ``mean_weights``, on the same scale. Above ``entropy`` where samples select differently.
        preferred: each path's share of the samples whose largest weight it has.
        collapsed: the number of the path, from 0, that has at least 0.99 of the weight for every sample; or None.
    """

    mean_weights: tuple[float, ...]
    entropy: float
    entropy_of_mean: float
    preferred: tuple[float, ...]
    collapsed: int | None


def path_entropy(weights: Tensor) -> Tensor:
    """Return the entropy of each sample's path weights, ``(B,)``, in units of the largest, log P.

    0: one path has all the weight. 1: all paths weigh the same. Of weights per channel it is the mean over channels.
    Nothing is read from the device.

    Args:
        weights: ``FusedPaths.weights``: ``(B, P)`` or ``(B, P, C)``, P at least 2, not negative, of sum 1 over P.

    Raises:
        ShapeError: another shape, or no floating point.

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
    """Return how the samples of a batch select among their paths: to be logged now and then; reads from the device.

    Of weights per channel, the mean over channels counts, but for ``entropy`` and ``collapsed``, which look at each
    channel.

    Args:
        weights: as in ``path_entropy``. Concatenate several batches for steadier figures.

    Raises:
        ShapeError: another shape, or no floating point.

    Example:
        >>> import torch
        >>> from mmdistill import path_selection
        >>> found = path_selection(torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
        >>> found.preferred, found.entropy, found.collapsed
        ((0.0, 1.0, 0.0), 0.0, 1)
    """
    _check("path_selection", weights)
    given = to_float32(weights.detach())
    by_path = given if given.ndim == 2 else given.mean(dim=2)
    mean = by_path.mean(dim=0)
    preferred = torch.nn.functional.one_hot(by_path.argmax(dim=1), by_path.shape[1]).to(mean.dtype).mean(dim=0)
    numbers = torch.cat([mean, preferred, path_entropy(given).mean()[None], path_entropy(mean[None]), _smallest(given)])
    paths, found = len(mean), numbers.tolist()
    return PathSelection(
        tuple(found[:paths]),
        found[2 * paths],
        found[2 * paths + 1],
        tuple(found[paths : 2 * paths]),
        _collapsed(found[2 * paths + 2 :]),
    )


class SelectionCheck:
    """Warns when a block's selection has collapsed. Reads the device at every hundredth training call only."""

    def __init__(self) -> None:
        self._calls = self._found_in_a_row = 0
        self._path: int | None = None
        self._warned = False

    def __call__(self, weights: Tensor) -> None:
        """Count a training call; at every hundredth check its weights, ``(B, P)`` or ``(B, P, C)``."""
        if self._warned or not torch.is_grad_enabled() or not has_values((weights,)):
            return
        self._calls += 1
        if self._calls % CHECK_INTERVAL:
            return
        path = _collapsed(_smallest(weights.detach()).tolist())
        self._found_in_a_row = self._found_in_a_row + 1 if path == self._path else 1
        self._path = path
        if path is not None and self._found_in_a_row >= MIN_COLLAPSED_CHECKS:
            self._warned = True
            warn(
                f"MPSDFusion: the selection has collapsed: path {path} of {weights.shape[1]} (0 gated sum, 1 product, "
                f"2 difference) has weight {COLLAPSE_LIMIT} or more for every sample, so the others learn nothing. "
                'Train with MPSDLoss, or take normalize="layer_norm"',
                DeadTermWarning,
            )


def _smallest(weights: Tensor) -> Tensor:
    """Return each path's smallest weight over samples and channels, ``(P,)``."""
    return weights.amin(dim=0 if weights.ndim == 2 else (0, 2))


def _collapsed(least: list[float]) -> int | None:
    return next((path for path, weight in enumerate(least) if weight >= COLLAPSE_LIMIT), None)


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
            are divided by the rms of its map, per sample; that did not help (docs/fusion.md, "Path collapse").
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
