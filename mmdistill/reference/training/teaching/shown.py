"""What distillation compares of two networks: levels, fused levels and scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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
