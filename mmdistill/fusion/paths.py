"""What a fusion returns, and the checks of what goes into it and of what is taken for it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmdistill._contracts import check_device, check_map
from mmdistill.errors import ShapeError
from mmdistill.interaction import check_modalities
from mmdistill.pair import Pair
from mmdistill.precision import autocasting, cast_by_autocast


class FusedPaths(NamedTuple):
    """A fused map and how it came about: the weighted sum of P paths.

    MPSD has three paths: gated sum, product, difference. A fusion without a choice has one, the fused map itself.

    Attributes:
        fused: ``(B, C, H, W)``.
        paths: the paths' maps ``(P, B, C, H, W)``.
        weights: each path's share, ``(B, P)``, or ``(B, P, C)`` where channels are weighed one by one.
    """

    fused: Tensor
    paths: Tensor
    weights: Tensor


def one_path(fused: Tensor) -> FusedPaths:
    """Return a fused map ``(B, C, H, W)`` as its own only path, of weight one; no memory is copied."""
    return FusedPaths(fused, fused[None], fused.new_ones(fused.shape[0], 1))


def check_fusion_input(where: str, pair: Pair[Tensor], channels: int, weight: Tensor) -> Pair[Tensor]:
    """Return a pair, ``savable``, of maps of one shape with ``channels`` channels, on the weight's device.

    Others are refused.
    """
    pair = check_modalities(where, pair)
    check_map(where, "rgb", pair[0], channels=channels)
    check_device(where, "weights", weight, pair[0], "rgb")
    return pair


def check_fusion_dtype(where: str, pair: Pair[Tensor], weight: Tensor) -> None:
    """Refuse members of another number type than the weight's, but under autocast, which casts all alike.

    Autocast leaves float64 as it is, and some of its operations know no other half precision than its own.
    """
    given = {"weights": weight, **dict(zip(Pair._fields, pair, strict=True))}
    device, expected = pair[0].device.type, f"{weight.dtype} as the weights"
    types: tuple[torch.dtype, ...] = (weight.dtype,)
    if autocasting(device) and any(values.dtype != torch.float64 for values in given.values()):
        types = cast_by_autocast(device)
        expected = f"{' or '.join(map(str, types))} under this autocast"
    for side, values in given.items():
        if values.dtype not in types:
            raise ShapeError(where, side, "dtype", expected=expected, got=values.dtype)


def check_fused_paths(where: str, side: str, fused: FusedPaths, channels: int) -> None:
    """Refuse what a fusion of these channels can't have made."""
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
