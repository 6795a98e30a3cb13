"""A pair: the RGB member and the TIR member that belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:

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
