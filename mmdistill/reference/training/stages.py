"""The stages of CMD's training: a teacher (or a plain student) alone, then a student beside a frozen teacher.

What every stage of training is to the loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal, get_args

from torch import Tensor, nn

from mmdistill import CMDLoss, FusedPaths, HFRDLoss, MPSDLoss, SCFDLoss, Terms, path_entropy
from mmdistill.interaction import Interaction
from mmdistill.reference.models.tracker_network import FUSED_LEVELS, TrackerNetwork
from mmdistill.reference.training.baselines import FEATURE_RIVALS, FeatureBaseline, KnowledgeDistillation, Rival
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.optimizer import prepare_network
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.teacher import DistillationFeatures, Teacher
from mmdistill.reference.training.tracking_loss import TrackingLossSettings, labels, tracking_loss
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.ranges import NON_EMPTY, Weight, check_fields


class Stage(nn.Module):
    """A network that is trained, and its loss.

    Attributes:
        network: what is trained, and saved at the end.
        logged: of the last forward pass, scalars by name that the log has beside the terms.
    """

    network: TrackerNetwork
    logged: Mapping[str, Tensor] = {}

    def prepare(self, settings: TrainingSettings) -> None:
        """Put into training mode what learns, and freeze the rest; called once, before the optimizer is made."""
        prepare_network(self.network, settings)

    def settings(self) -> dict[str, object]:
        """Return all settings by name; a run goes on only with the same."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Terms:
        """Return the loss's terms on a batch."""
        raise NotImplementedError

    def log_selection(self, levels: Sequence[FusedPaths]) -> None:
        """Have the entropy of the path weights logged, mean over samples, for each level with several paths."""
        self.logged = {
            f"entropy level {number + 1}": path_entropy(level.weights.detach()).mean()
            for number, level in zip(FUSED_LEVELS, levels, strict=True)
            if level.paths.shape[0] > 1
        }


Part = Literal["scfd", "mpsd", "hfrd"]
"""CMD's parts."""


@dataclass(frozen=True)
class DistillationSettings:
    """What a student is distilled with: parts of CMD or its rivals; the defaults are the paper's, but for alpha.

    The paper's alpha is 0.001. The losses are means, which it makes about a hundredth of the tracking loss, or less,
    and they do nothing (docs/losses.md, "Which alpha and beta").

    Attributes:
        parts: any of ``"scfd"``, ``"mpsd"``, ``"hfrd"``, and of CMD's rivals ``"kd"``, ``"fitnets"``, ``"review"``,
            ``"md"``.
        alpha: weight of what compares features: SCFD, MPSD and the rivals but KD.
        beta: weight of what compares scores: HFRD and KD.
        interaction: SCFD's at each level, shallow to deep; AFD, SED and CED of CMD Table 2 have one at all levels.
        shared_chain: one ABF chain for both modalities.
        residual: HFRD's residual.
    """

    parts: Annotated[tuple[Part | Rival, ...], NON_EMPTY] = ("scfd", "mpsd", "hfrd")
    alpha: Weight = 100.0
    beta: Weight = 100.0
    interaction: tuple[Interaction, Interaction, Interaction, Interaction] = ("sem", "sem", "sem", "cem")
    shared_chain: bool = False
    residual: Literal["mse", "hinge"] = "mse"

    def __post_init__(self) -> None:
        check_fields(self)


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
        self.log_selection(predictions.test.paths)
        return tracking_loss(predictions, batch, labels(batch.test_boxes, self.network.settings), self.tracking)


class DistilledStage(Stage):
    """A student trained with the tracking loss and CMD, or its rivals, beside a frozen teacher (CMD eq. 14).

    The student is distilled on the test frames. The teacher is put into evaluation mode and stays there; it gets no
    gradient, and it is no part of this module's parameters or state.

    Args:
        student: what is trained.
        teacher: what it learns from, on the device where it is to compute; crops and filters of the student's size.
        tracking: the tracking loss's weights.
        distillation: which parts of CMD, which rivals, and their weights.

    Raises:
        DataError: teacher and student don't fit together, or there is nothing to distill.
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
        self._teacher = Teacher(teacher, self.parts.parts)
        self.distillation = cmd_loss(student, teacher, self.parts)
        self.rivals = nn.ModuleDict(baseline_losses(student, teacher, self.parts))

    @property
    def teacher(self) -> TrackerNetwork:
        """The frozen teacher's network."""
        return self._teacher.network

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
        taught = self.teach(batch)
        predictions = self.network(batch.train, batch.train_boxes, batch.test, batch.proposals)
        self.log_selection(predictions.test.paths)
        own = DistillationFeatures.of(predictions)
        label = labels(batch.test_boxes, self.network.settings)
        tracking = tracking_loss(predictions, batch, label, self.tracking)
        weighted = [(1.0, tracking)]
        if self.distillation is not None:
            inputs = {
                "scfd": {"student_features": own.levels, "teacher_features": taught.levels},
                "mpsd": {"student_fused": predictions.test.paths, "teacher_fused": taught.fused},
                "hfrd": {"student_response": own.response, "teacher_response": taught.response, "gaussian": label},
            }
            given = {
                name: value
                for part in inputs
                if getattr(self.distillation, part)
                for name, value in inputs[part].items()
            }
            weighted.append((1.0, self.distillation(**given)))
        for name, rival in self.rivals.items():
            weight = self.parts.beta if name == "kd" else self.parts.alpha
            weighted.append((weight, rival(own, taught)))
        return Terms.weighted(*weighted)

    def teach(self, batch: Batch) -> DistillationFeatures:
        """Return what the teacher shows on a batch's test frames, as far as the parts ask."""
        return self._teacher.show(batch)


def cmd_loss(student: TrackerNetwork, teacher: TrackerNetwork, settings: DistillationSettings) -> CMDLoss | None:
    """Return the parts of CMD that the settings name, sized for these two networks; None where they name none."""
    fused = [[network.channels[level] for level in FUSED_LEVELS] for network in (student, teacher)]
    parts = settings.parts
    if not {*get_args(Part)} & {*parts}:
        return None
    return CMDLoss(
        SCFDLoss(student.channels, teacher.channels, interaction=settings.interaction, shared=settings.shared_chain)
        if "scfd" in parts
        else None,
        MPSDLoss(*fused) if "mpsd" in parts else None,
        HFRDLoss(residual=settings.residual) if "hfrd" in parts else None,
        alpha=settings.alpha,
        beta=settings.beta,
    )


def baseline_losses(
    student: TrackerNetwork, teacher: TrackerNetwork, settings: DistillationSettings
) -> dict[str, nn.Module]:
    """Return the rivals that the settings name, sized for these two networks."""
    found: dict[str, nn.Module] = {
        name: FeatureBaseline(loss, student, teacher) for name, loss in FEATURE_RIVALS.items() if name in settings.parts
    }
    if "kd" in settings.parts:
        found["kd"] = KnowledgeDistillation()
    return found


def _check_fit(student: TrackerNetwork, teacher: TrackerNetwork, parts: DistillationSettings) -> None:
    for side, network in (("student", student), ("teacher", teacher)):
        if network.settings.modality != "rgbt":
            raise DataError(f"{side}: expected a network of both modalities, got {network.settings.modality!r}")
        for name in ("hfrd", "kd"):
            if network.classifier is None and name in parts.parts:
                raise DataError(
                    f"{side}: {name!r} compares scores, and an ATOM's classifier isn't trained; leave {name} out"
                )
    for name in ("crop_size", "search_area", "filter_size", "label_sigma"):
        ours, theirs = getattr(student.settings, name), getattr(teacher.settings, name)
        if ours != theirs:
            raise DataError(f"teacher: {name} is {theirs}, but the student's is {ours}; train one for the other's")
