"""The optimizer's groups and learning rates, and the host's reads in a step."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.training import train_step
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.distillation import DistillationFeatures
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.settings import PartLearningRates, TrainingSettings
from mmdistill.reference.training.stages import DistilledStage, SupervisedStage, prepare_network
from mmdistill.reference.training.train_step import TrainStep, build_optimizer, learning_rate_factor, parameter_group


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


def steps(network: TrackerNetwork, settings: TrainingSettings, batch: Batch, count: int) -> TrainStep:
    """Return the training after some steps on one batch."""
    training = TrainStep(SupervisedStage(network), settings, torch.device("cpu"), DistributedContext())
    for number in range(count):
        assert not training.run(number, [batch]).skipped
    return training


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_the_fused_optimizer_learns_as_the_other(
    optimizer: str, student: TrackerNetwork, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainingSettings(steps=3, batch_size=2, optimizer=optimizer, clip_grad_norm=1.0)  # type: ignore[arg-type]
    states = []
    for devices in (("cpu",), ()):
        monkeypatch.setattr(train_step, "FUSED_DEVICES", devices)
        network = copy.deepcopy(student).double()
        training = steps(network, settings, batch.map(Tensor.double), 3)
        assert training.optimizer.defaults["fused"] == bool(devices)
        states.append(network.state_dict())
    # The gradient of a bias before batch norm is rounding, and Adam divides by it.
    before_norm = {name for name in states[0] if name.removesuffix("0.bias") + "1.running_mean" in states[0]}
    assert 0 < len(before_norm) < 10
    for name in states[0].keys() - before_norm:
        torch.testing.assert_close(states[0][name], states[1][name], rtol=1e-9, atol=1e-12)
    moved = [not torch.equal(states[0][name], value.double()) for name, value in student.state_dict().items()]
    assert sum(moved) > 0.9 * len(moved)


@pytest.mark.parametrize(("passes", "clip_scope"), [(1, None), (2, None), (1, "all"), (1, "part")])
def test_the_host_waits_for_the_device_once_a_step(
    passes: int,
    clip_scope: Literal["part", "all"] | None,
    student: TrackerNetwork,
    batch: Batch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = TrainingSettings(steps=3, batch_size=2 * passes, grad_accumulation=passes)
    if clip_scope is not None:
        settings = replace(settings, clip_grad_norm=1.0, clip_scope=clip_scope)
    training = TrainStep(SupervisedStage(student), settings, torch.device("cpu"), DistributedContext())
    reads: list[str] = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
        original = getattr(Tensor, name)

        def read(tensor: Tensor, *arguments: object, name: str = name, original: object = original) -> object:
            reads.append(name)
            return original(tensor, *arguments)  # type: ignore[operator]

        monkeypatch.setattr(Tensor, name, read)
    result = training.run(0, [batch] * passes)
    assert reads == ["tolist"]
    assert result.values["total"] > 0


@pytest.mark.parametrize(
    ("fused", "limit", "factor"),
    [(True, 0.0, "nan"), (False, 0.0, "nan"), (True, 1.0, "nan"), (True, 1.0, "inf"), (False, 1.0, "inf")],
)
def test_a_gradient_that_is_not_finite_moves_nothing(
    fused: bool, limit: float, factor: str, student: TrackerNetwork, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_step, "FUSED_DEVICES", ("cpu",) if fused else ())
    settings = TrainingSettings(steps=3, batch_size=2, clip_grad_norm=limit, clip_scope="part")
    training = steps(student, settings, batch, 2)
    before = copy.deepcopy([training.stage.state_dict(), training.optimizer.state_dict()])
    hook = next(training.stage.parameters()).register_hook(lambda gradient: gradient * float(factor))
    assert training.run(2, [batch]).skipped == "the gradient isn't finite"
    after = [training.stage.state_dict(), training.optimizer.state_dict()]
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
    torch.testing.assert_close(after[1]["state"], before[1]["state"], rtol=0, atol=0)
    hook.remove()
    assert not training.run(2, [batch]).skipped


def test_the_input_that_is_not_finite_is_named_after_a_skipped_step(
    student: TrackerNetwork, teacher: TrackerNetwork, batch: Batch
) -> None:
    stage = DistilledStage(student, teacher)
    training = TrainStep(stage, TrainingSettings(steps=9, batch_size=2), torch.device("cpu"), DistributedContext())
    computed = stage.teacher_features

    def broken(given: Batch) -> DistillationFeatures:
        features = computed(given)
        assert features.levels is not None
        levels = Pair([level * float("nan") for level in features.levels.rgb], features.levels.tir)
        return features._replace(levels=levels)

    stage.teacher_features = broken  # type: ignore[method-assign]
    named = "the loss isn't finite in SCFDLoss: teacher rgb level 1: values: expected finite, got"
    assert training.run(0, [batch]).skipped.startswith(named)  # the first step is checked
    stage.teacher_features = computed  # type: ignore[method-assign]
    assert not training.run(1, [batch]).skipped
    before = copy.deepcopy(stage.state_dict())
    stage.teacher_features = broken  # type: ignore[method-assign]
    assert training.run(2, [batch]).skipped == "the loss isn't finite in specific, common, total"
    torch.testing.assert_close(stage.state_dict(), before, rtol=0, atol=0)
    assert training.run(3, [batch]).skipped.startswith(named)
