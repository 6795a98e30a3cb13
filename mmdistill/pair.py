"""A pair: the RGB member and the TIR member that belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:
    from torch import Tensor

    class Pair(NamedTuple, Generic[T]):
        """See the runtime class below; Python 3.10 has no generic NamedTuple."""

        rgb: T
        tir: T

else:

    class Pair(NamedTuple):
        """An RGB member and a thermal infrared (TIR) member that belong together.

        Of tensors ``(B, C, H, W)``, or of sequences of such tensors, one per level, shallow to deep.
        It is a tuple: ``torch.cat(pair)`` stacks both modalities on the batch axis,
        ``Pair(*stacked.chunk(2))`` takes them apart again, ``Pair(*map(function, pair))`` maps.
        """

        rgb: Any
        tir: Any


def stacked(pair: Pair[Sequence[Tensor]]) -> list[Tensor]:
    """Return both modalities of each level stacked on the batch axis, RGB first: one pyramid of twice the batch.

    So both go through a loss or a network for single maps at once, with one set of weights.

    Args:
        pair: per modality and level, a map ``(B, C, H, W)``.

    Returns:
        Per level ``(2B, C, H, W)``.

    Raises:
        ShapeError: the modalities differ in their number of levels or in a level's shape.

    Example:
        >>> import torch
        >>> from mmdistill.pair import Pair, stacked
        >>> [level.flatten().tolist() for level in stacked(Pair([torch.ones(1, 1, 1, 2)], [torch.zeros(1, 1, 1, 2)]))]
        [[1.0, 1.0, 0.0, 0.0]]
    """
    import torch  # here, since a pair of images or folders needs no PyTorch

    from mmdistill._contracts import check_device, check_levels, check_map, check_pair, check_same_shape
    from mmdistill._numerics import without_autocast

    check_pair("stacked", "input", pair)
    check_levels("stacked", "rgb", pair[0])
    check_levels("stacked", "tir", pair[1], len(pair[0]))
    for number, (rgb, tir) in enumerate(zip(*pair, strict=True), start=1):
        check_map("stacked", f"rgb level {number}", rgb, floating=False)
        check_map("stacked", f"tir level {number}", tir, floating=False)
        check_same_shape("stacked", f"tir level {number}", tir, rgb, "rgb")
        check_device("stacked", f"tir level {number}", tir, rgb, "rgb")
    # Autocast to one half precision knows no concatenation of the other.
    with without_autocast(pair[0][0].device.type):
        return [torch.cat(level) for level in zip(*pair, strict=True)]
