"""CMD's rivals of its Table 4, where CMD acts: features of each modality, fused features, or scores.

The paper says that they are used "in the feature extraction and feature fusion stages" and no more. Read here: FitNets
and Knowledge Review imitate the teacher's four levels, modality by modality, and its fused levels; Modality
Distillation, by its own definition, the fused levels alone; Hinton's distillation the score maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from mmdistill import Pair, Terms
from mmdistill._numerics import sum_scalars
from mmdistill.losses import FitNetsLoss, KDLoss, ModalityDistillationLoss, ReviewKDLoss
from mmdistill.reference.models.tracker_network import FUSED_LEVELS, TrackerNetwork
from mmdistill.reference.training.teacher import DistillationFeatures

Rival = Literal["kd", "fitnets", "review", "md"]
"""Rivals by name: Hinton's distillation, FitNets, Knowledge Review, Modality Distillation."""

FEATURE_RIVALS: Mapping[Rival, Callable[[Sequence[int], Sequence[int]], nn.Module]] = {
    "fitnets": FitNetsLoss,
    "review": ReviewKDLoss,
    "md": ModalityDistillationLoss,
}
"""Those that compare features."""


class FeatureBaseline(nn.Module):
    """A rival on features: one loss for each modality's levels, but for Modality Distillation, and one for the fused.

    Args:
        loss: the rival's, made of the student's and the teacher's channels.
        student: what learns.
        teacher: what it learns from.
    """

    def __init__(
        self,
        loss: Callable[[Sequence[int], Sequence[int]], nn.Module],
        student: TrackerNetwork,
        teacher: TrackerNetwork,
    ) -> None:
        super().__init__()
        fused = [[network.channels[level] for level in FUSED_LEVELS] for network in (student, teacher)]
        alone = () if loss is ModalityDistillationLoss else Pair._fields
        self.losses = nn.ModuleDict({name: loss(student.channels, teacher.channels) for name in alone})
        self.losses["fused"] = loss(*fused)

    def forward(self, student: DistillationFeatures, teacher: DistillationFeatures) -> Terms:
        """Return the rival's one term, summed over where it compares, on the test frames."""
        found: list[Terms] = [
            loss(_compared(student, place), _compared(teacher, place)) for place, loss in self.losses.items()
        ]
        [name] = found[0]
        return Terms.summed(found[0].name, **{name: sum_scalars([terms.total for terms in found])})


class KnowledgeDistillation(nn.Module):
    """Hinton's distillation of the score maps by the last filter iterate; every position is a class."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = KDLoss(over="response")

    def forward(self, student: DistillationFeatures, teacher: DistillationFeatures) -> Terms:
        """Return the term ``distillation``, on the test frames."""
        terms: Terms = self.loss(student.response, teacher.response)
        return terms


def _compared(shown: DistillationFeatures, place: str) -> Sequence[Tensor]:
    compared: Sequence[Tensor] = getattr(shown if place == "fused" else shown.levels, place)
    return compared
