"""The stages of CMD's training: a teacher (or a plain student) alone, then a student beside a frozen teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from mmdistill import CMDLoss, HFRDLoss, MPSDLoss, Pair, SCFDLoss, Terms
from mmdistill.reference.data.batches import Batch
from mmdistill.reference.errors import DataError
from mmdistill.reference.networks.tracker_network import FUSED_LEVELS, Predictions, TrackerNetwork
from mmdistill.reference.training.stage import Stage
from mmdistill.reference.training.tracking_loss import TrackingLossSettings, labels, tracking_loss


@dataclass(frozen=True)
class DistillationSettings:
    """Which parts of CMD a student is distilled with; the defaults are the paper's.

    Attributes:
        parts: any of ``"scfd"``, ``"mpsd"``, ``"hfrd"``.
        alpha: weight of SCFD and MPSD.
        beta: weight of HFRD.
        shared_chain: one ABF chain for both modalities.
        residual: HFRD's residual.
    """

    parts: tuple[Literal["scfd", "mpsd", "hfrd"], ...] = ("scfd", "mpsd", "hfrd")
    alpha: float = 1e-3
    beta: float = 100.0
    shared_chain: bool = False
    residual: Literal["mse", "hinge"] = "mse"


class AloneStage(Stage):
    """A network trained with the tracking loss alone.

    Args:
        network: what is trained.
        tracking: the tracking loss's weights.
    """

    def __init__(self, network: TrackerNetwork, tracking: TrackingLossSettings | None = None) -> None:
        super().__init__()
        self.network = network
        self.tracking = tracking or TrackingLossSettings()

    def settings(self) -> dict[str, object]:
        """Return all settings by name; a run goes on only with the same."""
        return {"network": asdict(self.network.settings), "tracking": asdict(self.tracking)}

    def forward(self, batch: Batch) -> Terms:
        """Return the tracking loss's terms on a batch."""
        predictions = self.network(batch.train, batch.train_boxes, batch.test, batch.proposals)
        return tracking_loss(predictions, batch, labels(batch.test_boxes, self.network.settings), self.tracking)


class DistilledStage(Stage):
    """A student trained with the tracking loss and CMD beside a frozen teacher (CMD eq. 14).

    The student is distilled on the test frames. The teacher is put into evaluation mode and stays there; it gets no
    gradient, and it is no part of this module's parameters or state.

    Args:
        student: what is trained.
        teacher: what it learns from; crops and filters of the student's size.
        tracking: the tracking loss's weights.
        distillation: which parts of CMD, and their weights.

    Raises:
        DataError: teacher and student don't fit together.
    """

    def __init__(
        self,
        student: TrackerNetwork,
        teacher: TrackerNetwork,
        tracking: TrackingLossSettings | None = None,
        distillation: DistillationSettings | None = None,
    ) -> None:
        super().__init__()
        self.parts = distillation or DistillationSettings()
        _check_fit(student, teacher, self.parts)
        self.network = student
        self.tracking = tracking or TrackingLossSettings()
        self._teacher = (teacher.eval().requires_grad_(False),)  # in a tuple, so that it is not registered
        self.distillation = cmd_loss(student, teacher, self.parts)

    @property
    def teacher(self) -> TrackerNetwork:
        """The frozen teacher."""
        return self._teacher[0]

    def settings(self) -> dict[str, object]:
        """Return all settings by name; a run goes on only with the same."""
        return {
            "network": asdict(self.network.settings),
            "tracking": asdict(self.tracking),
            "distillation": asdict(self.parts),
            "teacher": asdict(self.teacher.settings),
        }

    def forward(self, batch: Batch) -> Terms:
        """Return the terms of the tracking loss and of CMD on a batch."""
        taught = batch.taught or self.teach(batch)
        predictions = self.network(batch.train, batch.train_boxes, batch.test, batch.proposals)
        label = labels(batch.test_boxes, self.network.settings)
        tracking = tracking_loss(predictions, batch, label, self.tracking)
        distilled = self.distillation(
            student_features=predictions.test.levels,
            teacher_features=_levels(taught) if "scfd" in self.parts.parts else None,
            student_fused=predictions.test.paths,
            teacher_fused=_series(taught, "fused") if "mpsd" in self.parts.parts else None,
            student_response=_last(predictions),
            teacher_response=taught.get("response"),
            gaussian=label,
        )
        return Terms.weighted((1.0, tracking), (1.0, distilled))

    @torch.no_grad()
    def teach(self, batch: Batch) -> dict[str, Tensor]:
        """Return what the teacher says of a batch's test frames, as far as the parts ask: maps ``(M, S, H, W, C)``.

        Channels last, as they lie in memory: what is stored and read again then gives the same bits.
        """
        predictions = self.teacher(batch.train, batch.train_boxes, batch.test, batch.proposals)
        features = predictions.test
        maps: dict[str, Tensor] = {}
        if "scfd" in self.parts.parts:
            for modality, levels in features.levels._asdict().items():
                maps |= {f"{modality} {number}": level for number, level in enumerate(levels)}
        if "mpsd" in self.parts.parts:
            maps |= {f"fused {number}": level for number, level in enumerate(features.fused)}
        frames = len(batch.proposals)
        taught = {name: rearrange(value, "(m s) c h w -> m s h w c", m=frames) for name, value in maps.items()}
        response = _last(predictions)
        if response is not None and "hfrd" in self.parts.parts:
            taught["response"] = response.contiguous()
        return taught


def cmd_loss(student: TrackerNetwork, teacher: TrackerNetwork, settings: DistillationSettings) -> CMDLoss:
    """Return the parts of CMD that the settings name, sized for these two networks."""
    fused = [[network.channels[level] for level in FUSED_LEVELS] for network in (student, teacher)]
    parts = settings.parts
    return CMDLoss(
        SCFDLoss(student.channels, teacher.channels, shared=settings.shared_chain) if "scfd" in parts else None,
        MPSDLoss(*fused) if "mpsd" in parts else None,
        HFRDLoss(residual=settings.residual) if "hfrd" in parts else None,
        alpha=settings.alpha,
        beta=settings.beta,
    )


def _levels(taught: Mapping[str, Tensor]) -> Pair[list[Tensor]]:
    return Pair(*(_series(taught, modality) for modality in Pair._fields))


def _series(taught: Mapping[str, Tensor], name: str) -> list[Tensor]:
    """Return the maps ``(B, C, H, W)`` of one name, shallow to deep."""
    count = sum(each.startswith(f"{name} ") for each in taught)
    return [rearrange(taught[f"{name} {number}"], "m s h w c -> (m s) c h w") for number in range(count)]


def _last(predictions: Predictions) -> Tensor | None:
    """Return the scores of the last filter iterate, which HFRD compares."""
    return None if predictions.scores is None else predictions.scores[-1]


def _check_fit(student: TrackerNetwork, teacher: TrackerNetwork, parts: DistillationSettings) -> None:
    for side, network in (("student", student), ("teacher", teacher)):
        if network.settings.modality != "rgbt":
            raise DataError(f"{side}: expected a network of both modalities, got {network.settings.modality!r}")
        if network.classifier is None and "hfrd" in parts.parts:
            raise DataError(f"{side}: 'hfrd' compares scores, and an ATOM's classifier isn't trained; leave hfrd out")
    for name in ("crop_size", "search_area", "filter_size", "label_sigma"):
        ours, theirs = getattr(student.settings, name), getattr(teacher.settings, name)
        if ours != theirs:
            raise DataError(f"teacher: {name} is {theirs}, but the student's is {ours}; train one for the other's")
