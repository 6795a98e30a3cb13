"""The optimizer's groups and learning rates."""

from __future__ import annotations

import pytest

from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.training.settings import PartLearningRates, TrainingSettings
from mmdistill.reference.training.stages import DistilledStage, SupervisedStage, prepare_network
from mmdistill.reference.training.train_step import build_optimizer, learning_rate_factor, parameter_group


def test_rates_fall_in_steps_as_dimps() -> None:
    factor = learning_rate_factor(TrainingSettings(decay_every=10, decay_factor=0.2))
    assert [factor(step) for step in (0, 9, 10, 25)] == pytest.approx([1, 1, 0.2, 0.04])


def test_rates_rise_then_fall_along_a_cosine() -> None:
    factor = learning_rate_factor(TrainingSettings(steps=100, warmup_steps=4, decay_every=0))
    assert factor(0) == pytest.approx(0.2)
    assert factor(1) == pytest.approx(0.4, rel=1e-3)
    assert factor(50) == pytest.approx(0.5)
    assert factor(100) == pytest.approx(0)


def test_every_parameter_learns_at_its_parts_rate(student: TrackerNetwork, teacher: TrackerNetwork) -> None:
    rates = PartLearningRates(trunk=1, fusion=2, classifier=3, optimizer=4, iou_net=5, distillation=6)
    stage = DistilledStage(student, teacher)
    optimizer = build_optimizer(stage, TrainingSettings(learning_rates=rates))
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    expected = {
        "network.trunks": 1,
        "network.fusions": 2,
        "network.classifier.extractor": 3,
        "network.classifier.initialiser": 3,
        "network.classifier.optimiser": 4,
        "network.iou_net": 5,
        "distillation": 6,
    }
    for name, parameter in stage.named_parameters():
        rate = next(value for prefix, value in expected.items() if name.startswith(prefix))
        assert rate_of[id(parameter)] == rate, name
        assert getattr(rates, parameter_group(name)) == rate


def test_a_frozen_trunk_is_left_out(student: TrackerNetwork) -> None:
    settings = TrainingSettings(freeze_trunk=True)
    prepare_network(student, settings)
    trained = {
        id(p) for group in build_optimizer(SupervisedStage(student), settings).param_groups for p in group["params"]
    }
    for name, parameter in student.named_parameters():
        assert (id(parameter) in trained) != name.startswith("trunks")
