"""Pair: the RGB member and the thermal infrared (TIR) member of one thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:
    from torch import Tensor

    class Pair(NamedTuple, Generic[T]):
        """The runtime class is below; Python 3.10 has no generic NamedTuple."""

        rgb: T
        tir: T

else:

    class Pair(NamedTuple):
        """An RGB member and the thermal infrared (TIR) member that belongs to it.

        The members are tensors ``(B, C, H, W)``, or sequences of such tensors, one per level, shallow to deep.
        A pair is a tuple: ``torch.cat(pair)`` stacks both modalities on the batch axis, ``Pair(*stacked.chunk(2))``
        splits them, ``Pair(*map(function, pair))`` maps.

        Attributes:
            rgb: the RGB member.
            tir: the TIR member.
        """

        rgb: Any
        tir: Any


def stacked(pair: Pair[Sequence[Tensor]]) -> list[Tensor]:
    """Return one pyramid with both modalities stacked on the batch axis, RGB first.

    So one call of a loss or a network handles both modalities, with one set of weights.

    Args:
        pair: per modality and level, a map ``(B, C, H, W)``.

    Returns:
        Per level, ``(2B, C, H, W)``.

    Raises:
        ShapeError: the modalities differ in their number of levels or in a level's shape.

    Example:
        >>> import torch
        >>> from mmdistill.pair import Pair, stacked
        >>> [level.flatten().tolist() for level in stacked(Pair([torch.ones(1, 1, 1, 2)], [torch.zeros(1, 1, 1, 2)]))]
        [[1.0, 1.0, 0.0, 0.0]]
    """
    import torch  # imported here, because a pair of images or folders needs no PyTorch

    from mmdistill._checks.shapes import check_device, check_levels, check_map, check_pair, check_same_shape
    from mmdistill._numerics import without_autocast

    check_pair("stacked", "input", pair)
    check_levels("stacked", "rgb", pair[0])
    check_levels("stacked", "tir", pair[1], len(pair[0]))
    for number, (rgb, tir) in enumerate(zip(*pair, strict=True), start=1):
        check_map("stacked", f"rgb level {number}", rgb, floating=False)
        check_map("stacked", f"tir level {number}", tir, floating=False)
        check_same_shape("stacked", f"tir level {number}", tir, rgb, "rgb")
        check_device("stacked", f"tir level {number}", tir, rgb, "rgb")
    # Autocast to one half precision cannot concatenate the other.
    with without_autocast(pair[0][0].device.type):
        return [torch.cat(level) for level in zip(*pair, strict=True)]
