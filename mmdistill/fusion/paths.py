"""What all fusion blocks share: their output, the gates between modalities, and the checks of inputs and outputs."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from mmdistill._checks.arguments import check_choice
from mmdistill._checks.shapes import check_device, check_map
from mmdistill._numerics import autocasting, cast_by_autocast
from mmdistill.errors import ShapeError
from mmdistill.interaction import check_modalities
from mmdistill.pair import Pair


class FusedPaths(NamedTuple):
    """The output of a fusion block: a fused map, which is the weighted sum of P paths.

    MPSD has three paths: gated sum, product and difference. Other fusion blocks have one, the fused map itself.

    Attributes:
        fused: ``(B, C, H, W)``.
        paths: the paths' maps ``(P, B, C, H, W)``.
        weights: the paths' weights ``(B, P)``, or ``(B, P, C)`` with one weight per channel.
    """

    fused: Tensor
    paths: Tensor
    weights: Tensor


def one_path(fused: Tensor) -> FusedPaths:
    """Return a fused map ``(B, C, H, W)`` as its only path, of weight 1; no memory is copied."""
    return FusedPaths(fused, fused[None], fused.new_ones(fused.shape[0], 1))


def check_fusion_input(where: str, pair: Pair[Tensor], channels: int, weight: Tensor) -> Pair[Tensor]:
    """Return the pair as normal tensors; refuse maps of wrong shape or channels, or on another device."""
    pair = check_modalities(where, pair)
    check_map(where, "rgb", pair[0], channels=channels)
    check_device(where, "weights", weight, pair[0], "rgb")
    return pair


def check_fusion_dtype(where: str, pair: Pair[Tensor], weight: Tensor) -> None:
    """Refuse members of another dtype than the weight's; under autocast, refuse dtypes that it does not cast.

    Autocast casts neither float64 nor, in some operations, the half precision that is not its own.
    """
    inputs = {"weights": weight, **dict(zip(Pair._fields, pair, strict=True))}
    device, expected = pair[0].device.type, f"{weight.dtype} as the weights"
    types: tuple[torch.dtype, ...] = (weight.dtype,)
    if autocasting(device) and any(values.dtype != torch.float64 for values in inputs.values()):
        types = cast_by_autocast(device)
        expected = f"{' or '.join(map(str, types))} under this autocast"
    for side, values in inputs.items():
        if values.dtype not in types:
            raise ShapeError(where, side, "dtype", expected=expected, got=values.dtype)


def check_fused_paths(where: str, side: str, fused: FusedPaths, channels: int) -> None:
    """Refuse an input that is no ``FusedPaths`` of this number of channels, or has inconsistent shapes."""
    if not isinstance(fused, FusedPaths):
        raise ShapeError(where, side, "type", expected="FusedPaths", got=type(fused).__name__)
    check_map(where, f"{side} fused", fused.fused, channels=channels)
    shape = tuple(fused.fused.shape)
    for part in ("paths", "weights"):
        if not isinstance(getattr(fused, part), Tensor):
            got = type(getattr(fused, part)).__name__
            raise ShapeError(where, f"{side} {part}", "type", expected="a tensor", got=got)
    if fused.paths.ndim != 5 or fused.paths.shape[0] == 0 or fused.paths.shape[1:] != shape:
        expected = f"(P, {', '.join(map(str, shape))})"
        raise ShapeError(where, f"{side} paths", "shape", expected=expected, got=tuple(fused.paths.shape))
    paths, batch = fused.paths.shape[:2]
    if fused.weights.shape not in ((batch, paths), (batch, paths, channels)):
        expected = f"({batch}, {paths}) or ({batch}, {paths}, {channels})"
        raise ShapeError(where, f"{side} weights", "shape", expected=expected, got=tuple(fused.weights.shape))


Gate = Literal["softmax", "sigmoid"]
"""How scores become gates: ``"softmax"`` over the two modalities, of sum 1, or ``"sigmoid"`` of each."""


def modality_gate(scores: Tensor, gate: Gate = "softmax") -> Tensor:
    """Return the gates of RGB and TIR from their scores, both ``(B, 2, ...)``."""
    return scores.softmax(dim=1) if gate == "softmax" else scores.sigmoid()


def gated_sum(pair: Pair[Tensor], gate: Tensor) -> Tensor:
    """Return ``rgb * gate of rgb + tir * gate of tir``, ``(B, C, H, W)``.

    Args:
        pair: two maps ``(B, C, H, W)``.
        gate: the gates of RGB and TIR: ``(B, 2, H, W)`` per position, or ``(B, 2, C)`` per channel.
    """
    rgb, tir = pair
    axes = "b m c -> b m c 1 1" if gate.ndim == 3 else "b m h w -> b m 1 h w"
    gates = rearrange(gate, axes)
    return rgb * gates[:, 0] + tir * gates[:, 1]


def position_scores(convolution: nn.Conv2d, pair: Pair[Tensor]) -> Tensor:
    """Return the 1x1 convolution of both maps, as if concatenated on the channel axis.

    Each map is convolved with its half of the weight: concatenation would take as long as the convolution.

    Args:
        convolution: 1x1, from 2C channels.
        pair: two maps ``(B, C, H, W)``.
    """
    rgb, tir = pair
    # Flattened, so that the weight's gradient is contiguous for maps of any layout.
    weight_rgb, weight_tir = (half[..., None, None] for half in convolution.weight.flatten(1).chunk(2, dim=1))
    return F.conv2d(rgb, weight_rgb, convolution.bias) + F.conv2d(tir, weight_tir)


def check_gate(where: str, gate: Gate) -> None:
    """Refuse an unknown gate."""
    check_choice(where, "gate", gate, get_args(Gate))
