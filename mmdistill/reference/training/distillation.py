"""Distillation of a tracker: the frozen teacher, CMD's losses and the baselines of CMD's Table 4.

The paper says that the baselines are used "in the feature extraction and feature fusion stages" and no more. This
implementation: FitNets and Knowledge Review compare the four levels of each modality and the fused levels. Modality
Distillation compares the fused levels, by its own definition. Knowledge distillation compares the score maps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from mmdistill import CMDLoss, HFRDLoss, MPSDLoss, Pair, SCFDLoss, Terms
from mmdistill._numerics import sum_scalars
from mmdistill.losses import FitNetsLoss, KDLoss, ModalityDistillationLoss, ReviewKDLoss
from mmdistill.reference.models.folding import fold_batch_norms
from mmdistill.reference.models.tracker_network import (
    FUSED_LEVELS,
    Predictions,
    TrackerNetwork,
    WeightStreams,
    flatten_frames,
)
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.settings import Baseline, DistillationSettings, Part
from mmdistill.toolkit.data_issues import DataError

PARTS_ON_LEVELS = frozenset({"scfd", "fitnets", "review"})
"""Parts and baselines that compare the levels of each modality."""

PARTS_ON_FUSED = frozenset({"mpsd", "fitnets", "review", "md"})
"""Parts and baselines that compare fused levels."""

PARTS_ON_RESPONSE = frozenset({"hfrd", "kd"})
"""Parts and baselines that compare score maps."""

FEATURE_BASELINES: Mapping[Baseline, Callable[[Sequence[int], Sequence[int]], nn.Module]] = {
    "fitnets": FitNetsLoss,
    "review": ReviewKDLoss,
    "md": ModalityDistillationLoss,
}
"""The losses of the baselines that compare features."""


class DistillationFeatures(NamedTuple):
    """The outputs of a network on B test frames (M of each of S sequences) that distillation compares.

    Attributes:
        levels: levels of each modality ``(B, C, H, W)``, shallow to deep; None if no part compares them.
        fused: fused levels ``(B, C, H, W)``, shallow to deep; None if no part compares them.
        response: scores of the last filter iterate ``(M, S, H, W)``; None if no part compares them, and for an ATOM.
    """

    levels: Pair[Sequence[Tensor]] | None
    fused: Sequence[Tensor] | None
    response: Tensor | None

    @classmethod
    def from_predictions(cls, predictions: Predictions) -> DistillationFeatures:
        """Return all features of a network's predictions."""
        response = None if predictions.scores is None else predictions.scores[-1]
        return cls(Pair(*predictions.test.levels), predictions.test.fused, response)


class Teacher:
    """A frozen network that computes the features the losses compare, and no more.

    It runs at every step, so its batch norm is folded into the convolutions. Reference frames are computed only if a
    loss compares score maps, and boxes are never estimated. It is not a module: the student's stage has no part of it.

    Args:
        network: the teacher on its device; it is put into evaluation mode and its parameters are frozen.
        parts: the parts and baselines in use.

    Attributes:
        network: the network of the argument; later changes of it have no effect on the features.
    """

    def __init__(self, network: TrackerNetwork, parts: Collection[str]) -> None:
        self.network = network.eval().requires_grad_(False)
        self._folded = fold_batch_norms(network)
        self._parts = frozenset(parts)

    @torch.no_grad()
    def features(self, batch: Batch) -> DistillationFeatures:
        """Return the features of a batch's test frames that the parts compare."""
        network, deepest = self._folded, len(FUSED_LEVELS) - 1
        levels = network.levels(flatten_frames(batch.test))
        fused = None
        if PARTS_ON_FUSED & self._parts:
            fused = [network.fuse(levels, number).fused for number in range(len(FUSED_LEVELS))]
        response = None
        if PARTS_ON_RESPONSE & self._parts:
            test = network.fuse(levels, deepest).fused if fused is None else fused[deepest]
            train = network.fuse(network.levels(flatten_frames(batch.train)), deepest).fused
            scores = network.score(train, batch.train_boxes, test)
            response = None if scores is None else scores[-1]
        return DistillationFeatures(Pair(*levels) if PARTS_ON_LEVELS & self._parts else None, fused, response)


class FeatureBaseline(nn.Module):
    """A baseline on features: one loss for fused levels, and for all but Modality Distillation one per modality.

    Args:
        loss: builds the baseline's loss from the student's and the teacher's channels.
        student: the network to train.
        teacher: the teacher.
    """

    def __init__(
        self,
        loss: Callable[[Sequence[int], Sequence[int]], nn.Module],
        student: TrackerNetwork,
        teacher: TrackerNetwork,
    ) -> None:
        super().__init__()
        modalities = () if loss is ModalityDistillationLoss else Pair._fields
        self.losses = nn.ModuleDict({name: loss(student.channels, teacher.channels) for name in modalities})
        self.losses["fused"] = loss(*_fused_channels(student, teacher))

    def forward(self, student: DistillationFeatures, teacher: DistillationFeatures) -> Terms:
        """Return the baseline's one term on the test frames, summed over its losses."""
        terms: list[Terms] = [
            loss(_features(student, name), _features(teacher, name)) for name, loss in self.losses.items()
        ]
        [term] = terms[0]
        return Terms.summed(terms[0].name, **{term: sum_scalars([each.total for each in terms])})


class ResponseBaseline(nn.Module):
    """Knowledge distillation of the last filter iterate's score maps; every position is a class."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = KDLoss(over="response")

    def forward(self, student: DistillationFeatures, teacher: DistillationFeatures) -> Terms:
        """Return the term ``distillation`` on the test frames."""
        terms: Terms = self.loss(student.response, teacher.response)
        return terms


def cmd_loss(student: TrackerNetwork, teacher: TrackerNetwork, settings: DistillationSettings) -> CMDLoss | None:
    """Return the parts of CMD in the settings, sized for both networks; None if the settings have baselines only.

    Each part's initial weights do not depend on the other parts; see ``WeightStreams``.
    """
    parts = settings.parts
    if not {*get_args(Part)} & {*parts}:
        return None
    streams = WeightStreams()
    scfd, mpsd, hfrd = None, None, None
    if "scfd" in parts:
        with streams.part("scfd"):
            scfd = SCFDLoss(
                student.channels,
                teacher.channels,
                interaction=settings.interaction,
                shared=settings.shared_chain,
                reduction=settings.reduction,
            )
    if "mpsd" in parts:
        with streams.part("mpsd"):
            mpsd = MPSDLoss(*_fused_channels(student, teacher), reduction=settings.reduction)
    if "hfrd" in parts:
        hfrd = HFRDLoss(residual=settings.residual, weigh_label=settings.weigh_label)
    return CMDLoss(scfd, mpsd, hfrd, alpha=settings.alpha, beta=settings.beta)


def baseline_losses(
    student: TrackerNetwork, teacher: TrackerNetwork, settings: DistillationSettings
) -> dict[str, nn.Module]:
    """Return the baselines in the settings by name, sized for both networks."""
    losses: dict[str, nn.Module] = {
        name: FeatureBaseline(loss, student, teacher)
        for name, loss in FEATURE_BASELINES.items()
        if name in settings.parts
    }
    if "kd" in settings.parts:
        losses["kd"] = ResponseBaseline()
    return losses


def check_networks(student: TrackerNetwork, teacher: TrackerNetwork, parts: Collection[str]) -> None:
    """Check that the teacher can teach the student.

    Raises:
        DataError: a network has one modality only or lacks the scores that a part compares, or sizes differ.
    """
    for side, network in (("student", student), ("teacher", teacher)):
        if network.settings.modality != "rgbt":
            raise DataError(f"{side}: expected a network of both modalities, got {network.settings.modality!r}")
        for name in ("hfrd", "kd"):
            if network.classifier is None and name in parts:
                raise DataError(
                    f"{side}: {name!r} compares scores, and an ATOM's classifier isn't trained; leave {name} out"
                )
    for name in ("crop_size", "search_area", "filter_size", "label_sigma"):
        student_value, teacher_value = getattr(student.settings, name), getattr(teacher.settings, name)
        if student_value != teacher_value:
            raise DataError(f"teacher: expected {name} {student_value} as the student's, got {teacher_value}")


def _fused_channels(student: TrackerNetwork, teacher: TrackerNetwork) -> list[list[int]]:
    return [[network.channels[level] for level in FUSED_LEVELS] for network in (student, teacher)]


def _features(features: DistillationFeatures, name: str) -> Sequence[Tensor]:
    """Return the fused levels, or the levels of the modality ``name``."""
    compared: Sequence[Tensor] = getattr(features if name == "fused" else features.levels, name)
    return compared
