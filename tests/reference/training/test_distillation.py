"""The teacher computes the compared features only, and baselines train the student only."""

from __future__ import annotations

from typing import Literal, get_args

import pytest
import torch
from torch.utils._pytree import tree_leaves
from training_helpers import reached

from mmdistill import CMDLoss, HFRDLoss, MPSDLoss, Pair, SCFDLoss
from mmdistill._numerics import Reduction
from mmdistill.interaction import Interaction
from mmdistill.reference.models.config import NetworkSettings, student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.training import settings
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.distillation import (
    PARTS_ON_FUSED,
    PARTS_ON_LEVELS,
    PARTS_ON_RESPONSE,
    DistillationFeatures,
    Teacher,
    cmd_loss,
)
from mmdistill.reference.training.settings import DistillationSettings, TrainingSettings
from mmdistill.reference.training.stages import DistilledStage, prepare_network
from mmdistill.reference.training.train_step import parameter_group

BASELINES = {"kd": "distillation", "fitnets": "hint", "review": "review", "md": "distillation"}
EVERY_PART = sorted(PARTS_ON_LEVELS | PARTS_ON_FUSED | PARTS_ON_RESPONSE)


@pytest.fixture(autouse=True)
def _learned_statistics(batch: Batch, teacher: TrackerNetwork) -> None:
    """Batch norm with statistics other than the initial ones."""
    teacher.train()
    with torch.no_grad():
        for _ in range(3):
            teacher(batch.train, batch.train_boxes, batch.test, batch.proposals)
    teacher.eval()


def test_the_choices_of_the_settings_are_those_of_the_library() -> None:
    assert get_args(settings.Interaction) == get_args(Interaction)
    assert get_args(settings.Reduction) == get_args(Reduction)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_reduction_of_the_settings_is_that_of_both_losses(
    reduction: Reduction, student: TrackerNetwork, teacher: TrackerNetwork
) -> None:
    loss = cmd_loss(student, teacher, DistillationSettings(reduction=reduction))
    assert loss is not None
    assert [loss.scfd.reduction, loss.mpsd.reduction] == [reduction, reduction]


def test_the_weights_of_the_settings_are_those_of_the_library() -> None:
    loss, own = CMDLoss(hfrd=HFRDLoss()), DistillationSettings()
    assert (own.alpha, own.beta) == (loss.alpha, loss.beta) == (1e-3, 100.0)
    assert own.reduction == SCFDLoss((2,), (2,), interaction=("sem",)).reduction == MPSDLoss((2,), (2,)).reduction


def whole(network: TrackerNetwork, batch: Batch) -> DistillationFeatures:
    """The features of the network's own forward pass."""
    with torch.no_grad():
        predictions = network(batch.train, batch.train_boxes, batch.test, batch.proposals)
    return DistillationFeatures.from_predictions(predictions)


@pytest.mark.parametrize("part", EVERY_PART)
def test_features_are_the_networks_predictions(part: str, batch: Batch, teacher: TrackerNetwork) -> None:
    features = Teacher(teacher, (part,)).features(batch)
    compared = [part in parts for parts in (PARTS_ON_LEVELS, PARTS_ON_FUSED, PARTS_ON_RESPONSE)]
    assert [each is not None for each in features] == compared
    expected = DistillationFeatures(
        *(each if there else None for each, there in zip(whole(teacher, batch), compared, strict=True))
    )
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert not any(values.requires_grad for values in tree_leaves(features) if values is not None)


def test_several_parts_get_all_features(batch: Batch, teacher: TrackerNetwork) -> None:
    features = Teacher(teacher, DistillationSettings().parts).features(batch)
    torch.testing.assert_close(features, whole(teacher, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", EVERY_PART)
def test_only_compared_features_are_computed(
    part: str, batch: Batch, teacher: TrackerNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    fused: list[int] = []
    levels, fuse = TrackerNetwork.levels, TrackerNetwork.fuse

    def counted_levels(self: TrackerNetwork, images: Pair[torch.Tensor]) -> Pair[list[torch.Tensor]]:
        seen.append(len(images.rgb))
        return levels(self, images)

    def counted_fuse(self: TrackerNetwork, maps: Pair[list[torch.Tensor]], number: int) -> object:
        fused.append(number)
        return fuse(self, maps, number)

    def refuse(*_: object) -> None:
        raise AssertionError("boxes are never estimated")

    frozen = Teacher(teacher, (part,))
    monkeypatch.setattr(TrackerNetwork, "levels", counted_levels)
    monkeypatch.setattr(TrackerNetwork, "fuse", counted_fuse)
    for name in ("modulate", "features", "predict"):
        monkeypatch.setattr(frozen._folded.iou_net, name, refuse)
    frozen.features(batch)
    test, train = (len(images) * len(images[0]) for images in (batch.test.rgb, batch.train.rgb))
    assert seen == ([test, train] if part in PARTS_ON_RESPONSE else [test])
    assert fused == ([1, 1] if part in PARTS_ON_RESPONSE else [0, 1] if part in PARTS_ON_FUSED else [])


def test_later_changes_of_the_network_have_no_effect(batch: Batch) -> None:
    torch.manual_seed(0)
    network = TrackerNetwork(student_settings(width=4, crop_size=96))
    frozen = Teacher(network, ("mpsd",))
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    before = frozen.features(batch)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    torch.testing.assert_close(frozen.features(batch), before, rtol=0, atol=0)


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.slow
def test_each_baseline_of_table_four_teaches_the_student_alone(
    baseline: str, streams: Literal[1, 2], batch: Batch, teacher: TrackerNetwork
) -> None:
    torch.manual_seed(1)
    student = TrackerNetwork(NetworkSettings(streams=streams, width=4, crop_size=96))
    stage = DistilledStage(student, teacher, distillation=DistillationSettings(parts=(baseline,), alpha=0.5, beta=7.0))  # type: ignore[arg-type]
    prepare_network(student, TrainingSettings())
    terms = stage(batch)
    name = BASELINES[baseline]
    assert list(terms) == ["box", "last", "first", "middle", name]
    tracking = terms["box"] + 100 * terms["last"] + 100 * terms["first"] + 400 * terms["middle"]
    torch.testing.assert_close(terms.total, tracking + (7.0 if baseline == "kd" else 0.5) * terms[name])
    terms[name].backward()
    parts = {"trunks", "fusions", "classifier"} if baseline == "kd" else {"trunks", "fusions", "baselines"}
    assert reached(stage) == parts
    assert all(parameter.grad is None for parameter in teacher.parameters())
    own = [name for name, _ in stage.named_parameters() if name.startswith("baselines.")]
    assert {parameter_group(name) for name in own} <= {"distillation"}
    assert bool(own) == (baseline != "kd")


def test_a_baseline_compares_each_modality_with_the_same_of_the_teacher(batch: Batch, teacher: TrackerNetwork) -> None:
    torch.manual_seed(2)
    twin = TrackerNetwork(teacher.settings)
    twin.load_state_dict(teacher.state_dict())
    for baseline in ("fitnets", "md"):  # where channels agree they have no regressor: nothing differs but rounding
        stage = DistilledStage(twin, teacher, distillation=DistillationSettings(parts=(baseline,)))  # type: ignore[arg-type]
        twin.eval()
        assert stage(batch)[BASELINES[baseline]].item() < 1e-9
