"""The stages of CMD's training: a network alone, or a student with a frozen teacher; and DiMP's tracking loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from torch import Tensor, nn

from mmdistill import FusedPaths, Terms, path_entropy
from mmdistill._numerics import hinge_residual, to_float32
from mmdistill.base import DistillationLoss
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.dimp_classifier import gaussian_label
from mmdistill.reference.models.tracker_network import FUSED_LEVELS, Predictions, TrackerNetwork
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.distillation import (
    DistillationFeatures,
    Teacher,
    baseline_losses,
    check_networks,
    cmd_loss,
)
from mmdistill.reference.training.settings import DistillationSettings, TrackingLossSettings, TrainingSettings

TRACKING_TERMS = frozenset({"box", "last", "first", "middle"})
"""Names of the tracking loss's terms."""


def warmup_factor(step: int, warmup_steps: int) -> float:
    """Return the factor of a linear warm-up: ``1 / (warmup_steps + 1)`` at step 0, and 1 from ``warmup_steps`` on."""
    return min((step + 1) / (warmup_steps + 1), 1.0)


def score_labels(boxes: Tensor, settings: NetworkSettings) -> Tensor:
    """Return the Gaussian labels ``(M, S, H', W')`` of target boxes ``(M, S, 4)``, ``x y w h`` in crop pixels."""
    size = (settings.score_size, settings.score_size)
    return gaussian_label(boxes, size, settings.crop_size / settings.feature_size, settings.label_sigma_cells)


def tracking_loss(predictions: Predictions, batch: Batch, label: Tensor, settings: TrackingLossSettings) -> Terms:
    """Return DiMP's training loss, CMD's L_original: terms ``box``, ``last``, ``first`` and ``middle``.

    Predictions without scores have the term ``box`` only.

    Args:
        predictions: the network's output on the batch.
        batch: for the proposals' overlaps.
        label: the test frames' Gaussian labels ``(M, S, H', W')``.
        settings: weights and threshold.
    """
    box = (to_float32(predictions.iou) - (2 * batch.overlaps - 1)).square().mean()
    if predictions.scores is None:
        return Terms.weighted((settings.box, Terms.summed(box=box)))
    residual = hinge_residual(predictions.scores, label.expand_as(predictions.scores), settings.threshold)
    iterates = residual.square().flatten(1).mean(dim=1)
    terms = {"box": box, "last": iterates[-1], "first": iterates[0]}
    if len(iterates) > 2:
        terms["middle"] = iterates[1:-1].mean()
    weights = asdict(settings)
    return Terms.weighted(*((weights[name], Terms.summed(**{name: value})) for name, value in terms.items()))


def prepare_network(network: TrackerNetwork, settings: TrainingSettings) -> None:
    """Put the network into training mode, except what the settings freeze in its trunks."""
    network.train()
    for trunk in network.trunks.values():
        trunk.requires_grad_(not settings.freeze_trunk)
        if settings.freeze_bn or settings.freeze_trunk:
            trunk.eval()


class Stage(nn.Module):
    """A network to train, and its loss.

    Attributes:
        network: the network that is trained, and saved at the end.
        logged: scalars of the last forward pass, by name, for the log.
    """

    network: TrackerNetwork
    logged: Mapping[str, Tensor] = {}

    def prepare(self, settings: TrainingSettings) -> None:
        """Put trained modules into training mode and freeze all others; called once, before the optimizer is built."""
        prepare_network(self.network, settings)

    def settings(self) -> dict[str, object]:
        """Return all settings by name; a run resumes only with the same settings."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Terms:
        """Return the loss's terms on a batch."""
        raise NotImplementedError

    def weigh(self, terms: Terms, step: int) -> Terms:
        """Return the terms of a forward pass with the weights that they have at this step.

        Called outside of ``forward``: compiled code would have the step's weights as constants.
        """
        del step
        return terms

    def check_loss_inputs(self, on: bool) -> None:
        """Let the losses refuse inputs that are not finite, or not; the check reads all inputs and waits for them."""
        for module in self.modules():
            if isinstance(module, DistillationLoss) and hasattr(module, "check_values"):
                module.check_values = on  # type: ignore[assignment]

    def log_selection(self, levels: Sequence[FusedPaths]) -> None:
        """Log the entropy of the path weights, mean over samples, for each level with several paths."""
        self.logged = {
            f"entropy level {number + 1}": path_entropy(level.weights.detach()).mean()
            for number, level in zip(FUSED_LEVELS, levels, strict=True)
            if level.paths.shape[0] > 1
        }


class SupervisedStage(Stage):
    """A network trained with the tracking loss only.

    Args:
        network: the network to train.
        tracking: weights of the tracking loss.
    """

    def __init__(self, network: TrackerNetwork, tracking: TrackingLossSettings | None = None) -> None:
        super().__init__()
        self.network = network
        self.tracking = tracking or TrackingLossSettings()

    def settings(self) -> dict[str, object]:
        """Return all settings by name; a run resumes only with the same settings."""
        return {"network": asdict(self.network.settings), "tracking": asdict(self.tracking)}

    def forward(self, batch: Batch) -> Terms:
        """Return the tracking loss's terms on a batch."""
        predictions = self.network(batch.train, batch.train_boxes, batch.test, batch.proposals)
        self.log_selection(predictions.test.paths)
        return tracking_loss(predictions, batch, score_labels(batch.test_boxes, self.network.settings), self.tracking)


class DistilledStage(Stage):
    """A student trained with the tracking loss, and CMD or baselines, from a frozen teacher (CMD eq. 14).

    Features are compared on the test frames. The teacher stays in evaluation mode and gets no gradient. It is no part
    of this module's parameters or state.

    Args:
        student: the network to train.
        teacher: the teacher on its device; its crops and filters have the student's size.
        tracking: weights of the tracking loss.
        distillation: parts of CMD, baselines, and their weights.

    Raises:
        DataError: the teacher can't teach this student with these parts.
    """

    def __init__(
        self,
        student: TrackerNetwork,
        teacher: TrackerNetwork,
        tracking: TrackingLossSettings | None = None,
        distillation: DistillationSettings | None = None,
    ) -> None:
        super().__init__()
        self.distillation_settings = distillation or DistillationSettings()
        parts = self.distillation_settings.parts
        check_networks(student, teacher, parts)
        self.network = student
        self.tracking = tracking or TrackingLossSettings()
        self._teacher = Teacher(teacher, parts)
        self.distillation = cmd_loss(student, teacher, self.distillation_settings)
        self.baselines = nn.ModuleDict(baseline_losses(student, teacher, self.distillation_settings))

    @property
    def teacher(self) -> TrackerNetwork:
        """The frozen teacher's network."""
        return self._teacher.network

    def settings(self) -> dict[str, object]:
        """Return all settings by name; a run resumes only with the same settings."""
        return {
            "network": asdict(self.network.settings),
            "tracking": asdict(self.tracking),
            "distillation": asdict(self.distillation_settings),
            "teacher": asdict(self.teacher.settings),
        }

    def forward(self, batch: Batch) -> Terms:
        """Return the terms of the tracking loss, CMD and the baselines on a batch; ``weigh`` adds the warm-up."""
        teacher = self.teacher_features(batch)
        predictions = self.network(batch.train, batch.train_boxes, batch.test, batch.proposals)
        self.log_selection(predictions.test.paths)
        student = DistillationFeatures.from_predictions(predictions)
        label = score_labels(batch.test_boxes, self.network.settings)
        weighted = [(1.0, tracking_loss(predictions, batch, label, self.tracking))]
        if self.distillation is not None:
            inputs = {
                "scfd": {"student_features": student.levels, "teacher_features": teacher.levels},
                "mpsd": {"student_fused": predictions.test.paths, "teacher_fused": teacher.fused},
                "hfrd": {"student_response": student.response, "teacher_response": teacher.response, "gaussian": label},
            }
            used = {
                name: value
                for part in inputs
                if getattr(self.distillation, part)
                for name, value in inputs[part].items()
            }
            weighted.append((1.0, self.distillation(**used)))
        weights = self.distillation_settings.baselines
        for name, baseline in self.baselines.items():
            weighted.append((getattr(weights, name), baseline(student, teacher)))
        return Terms.weighted(*weighted)

    def weigh(self, terms: Terms, step: int) -> Terms:
        """Return the terms with the distillation's weights times the warm-up's factor at this step."""
        factor = warmup_factor(step, self.distillation_settings.warmup_steps)
        if factor == 1:
            return terms
        weights = {
            name: weight if name in TRACKING_TERMS else factor * weight for name, weight in terms.weights.items()
        }
        return Terms(terms.parts, weights=weights, name=terms.name)

    def teacher_features(self, batch: Batch) -> DistillationFeatures:
        """Return the teacher's features on a batch's test frames, as far as the parts compare them."""
        return self._teacher.features(batch)
