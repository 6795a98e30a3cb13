"""What distillation compares of two networks: levels, fused levels and scores, and how a teacher's are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from einops import rearrange
from torch import Tensor

from mmdistill import Pair
from mmdistill.reference.networks.tracker_network import Predictions


class Shown(NamedTuple):
    """What a network shows on B test frames, M of each of S sequences.

    Attributes:
        levels: of each modality ``(B, C, H, W)``, shallow to deep; None where nobody asked.
        fused: ``(B, C, H, W)``, shallow to deep; None where nobody asked.
        response: scores by the last filter iterate ``(M, S, H, W)``; None where nobody asked, or of an ATOM.
    """

    levels: Pair[Sequence[Tensor]] | None
    fused: Sequence[Tensor] | None
    response: Tensor | None

    @classmethod
    def of(cls, predictions: Predictions) -> Shown:
        """Return all that a network's predictions show."""
        response = None if predictions.scores is None else predictions.scores[-1]
        return cls(Pair(*predictions.test.levels), predictions.test.fused, response)

    def packed(self, frames: int) -> dict[str, Tensor]:
        """Return by name what was asked for of M frames: maps ``(M, S, H, W, C)``, and the response.

        Channels last, as they lie in memory: what is stored and read again then gives the same bits.
        """
        maps: dict[str, Tensor] = {}
        if self.levels is not None:
            for modality, levels in self.levels._asdict().items():
                maps |= {f"{modality} {number}": level for number, level in enumerate(levels)}
        if self.fused is not None:
            maps |= {f"fused {number}": level for number, level in enumerate(self.fused)}
        packed = {name: rearrange(value, "(m s) c h w -> m s h w c", m=frames) for name, value in maps.items()}
        if self.response is not None:
            packed["response"] = self.response.contiguous()
        return packed

    @classmethod
    def unpacked(cls, packed: Mapping[str, Tensor]) -> Shown:
        """Return what was packed."""
        rgb, tir = (_series(packed, modality) for modality in Pair._fields)
        levels = Pair[Sequence[Tensor]](rgb, tir) if rgb else None
        return cls(levels, _series(packed, "fused") or None, packed.get("response"))


def _series(packed: Mapping[str, Tensor], name: str) -> list[Tensor]:
    """Return the maps ``(B, C, H, W)`` of one name, shallow to deep."""
    count = sum(each.startswith(f"{name} ") for each in packed)
    return [rearrange(packed[f"{name} {number}"], "m s h w c -> (m s) c h w") for number in range(count)]
