"""A frozen teacher, which computes what the losses compare and no more.

What distillation compares of two networks: levels, fused levels and scores.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmdistill import Pair
from mmdistill.reference.models.folding import fold_batch_norms
from mmdistill.reference.models.tracker_network import FUSED_LEVELS, Predictions, TrackerNetwork, flatten_frames
from mmdistill.reference.training.data_loader import Batch


class DistillationFeatures(NamedTuple):
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
    def of(cls, predictions: Predictions) -> DistillationFeatures:
        """Return all that a network's predictions show."""
        response = None if predictions.scores is None else predictions.scores[-1]
        return cls(Pair(*predictions.test.levels), predictions.test.fused, response)


LEVELS_FOR = frozenset({"scfd", "fitnets", "review"})
"""Parts of CMD, and rivals, that compare each modality's levels."""

FUSED_FOR = frozenset({"mpsd", "fitnets", "review", "md"})
"""Those that compare fused levels."""

RESPONSE_FOR = frozenset({"hfrd", "kd"})
"""Those that compare scores."""


class Teacher:
    """What a trained network shows of test frames.

    No module, so that a student's stage has no part of it. It is asked at every step, so its batch norm is folded,
    train frames are looked at for scores alone, and boxes are never estimated.

    Args:
        network: on the device where it is to compute; put into evaluation mode, and its parameters are frozen.
        parts: of CMD, or rivals, that learn from it.

    Attributes:
        network: as it was given; what is changed in it now has no effect here.
    """

    def __init__(self, network: TrackerNetwork, parts: Collection[str]) -> None:
        self.network = network.eval().requires_grad_(False)
        self._folded = fold_batch_norms(network)
        self._parts = frozenset(parts)

    @torch.no_grad()
    def show(self, batch: Batch) -> DistillationFeatures:
        """Return what the parts compare, of a batch's test frames."""
        network, deepest = self._folded, len(FUSED_LEVELS) - 1
        levels = network.levels(flatten_frames(batch.test))
        fused = None
        if FUSED_FOR & self._parts:
            fused = [network.fuse(levels, number).fused for number in range(len(FUSED_LEVELS))]
        response = None
        if RESPONSE_FOR & self._parts:
            seen = network.fuse(levels, deepest).fused if fused is None else fused[deepest]
            known = network.fuse(network.levels(flatten_frames(batch.train)), deepest).fused
            scores = network.score(known, batch.train_boxes, seen)
            response = None if scores is None else scores[-1]
        return DistillationFeatures(Pair(*levels) if LEVELS_FOR & self._parts else None, fused, response)
