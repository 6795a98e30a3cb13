"""Training with ``torch.compile``: the values of eager code, resumed runs, and machines without a compiler."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.registry import lookup_backend
from torch.fx import GraphModule

from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.training import train_step
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import DistillationSettings, TrainingSettings
from mmdistill.reference.training.stages import DistilledStage, Stage, SupervisedStage
from mmdistill.reference.training.tir_cmd.stage import CrossModalStage
from mmdistill.reference.training.train_step import TrainStep
from mmdistill.reference.training.trainer import train
from mmdistill.tir_cmd import SETTINGS as BRANCH_SETTINGS
from mmdistill.toolkit.data_issues import DataError

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(steps=4, batch_size=2, checkpoint_every=2, freeze_bn_after=1, compile=True)


def missing_compiler(*_: object, **__: object) -> None:
    raise RuntimeError("no compiler found\nand a second line")


def test_a_machine_without_a_compiler_is_told_what_to_do(
    student: TrackerNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_step, "COMPILE_BACKEND", missing_compiler)
    with pytest.raises(
        DataError, match=r"^training\.compile: PyTorch can't compile here \(.*no compiler found.*\); ins"
    ):
        TrainStep(SupervisedStage(student), SETTINGS, CPU, DistributedContext())


def test_a_loss_with_second_derivatives_is_refused(student: TrackerNetwork) -> None:
    stage = CrossModalStage(student, BRANCH_SETTINGS["B1"])
    with pytest.raises(DataError, match=r"^training\.compile: can't compile TIR-CMD's loss"):
        TrainStep(stage, SETTINGS, CPU, DistributedContext())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_steps_are_the_eager_ones(
    precision: str, student: TrackerNetwork, teacher: TrackerNetwork, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_step, "COMPILE_BACKEND", "aot_eager")
    settings = replace(SETTINGS, precision=precision, log_gradient_shares=2)  # type: ignore[arg-type]
    results, weights = [], []
    for compiled in (False, True):
        torch.manual_seed(0)
        stage = DistilledStage(copy.deepcopy(student), teacher)
        names = stage.state_dict().keys()
        training = TrainStep(stage, replace(settings, compile=compiled), CPU, DistributedContext())
        assert (stage._compiled_call_impl is not None) == compiled
        results.append([training.run(number, [batch]) for number in range(2)])
        weights.append(stage.state_dict())
        assert weights[-1].keys() == names
    rtol = 1e-3 if precision == "float32" else 0.05
    for eager, other in zip(*results, strict=True):
        assert not other.skipped
        assert other.values == pytest.approx(eager.values, rel=rtol)
        assert other.logged == pytest.approx(eager.logged, rel=rtol, abs=1e-6)
    if precision == "float32":
        torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_warm_up_changes_the_weights_without_compiling_again(
    student: TrackerNetwork, teacher: TrackerNetwork, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[int] = []  # the step of each compilation; -1 for the check of the compiler

    def counting(graph: GraphModule, inputs: list[Tensor]) -> object:
        graphs.append(number)
        return lookup_backend("aot_eager")(graph, inputs)

    monkeypatch.setattr(train_step, "COMPILE_BACKEND", counting)
    settings = replace(SETTINGS, freeze_bn_after=0)
    distillation = DistillationSettings(warmup_steps=2)
    results = []
    for compiled in (False, True):
        number = -1
        torch.manual_seed(0)
        stage = DistilledStage(copy.deepcopy(student), teacher, distillation=distillation)
        training = TrainStep(stage, replace(settings, compile=compiled), CPU, DistributedContext())
        values = []
        for number in range(4):
            values.append(training.run(number, [batch]).values)
        results.append(values)
    assert {*graphs} - {-1} == {0}
    for number, (eager, other) in enumerate(zip(*results, strict=True)):
        assert other == pytest.approx(eager, rel=1e-3)
        tracking = eager["box"] + 100 * (eager["last"] + eager["first"]) + 400 * eager["middle"]
        features = distillation.alpha * (eager["specific"] + eager["common"] + eager["fusion"] + eager["penalty"])
        expected = tracking + min((number + 1) / 3, 1) * (features + distillation.beta * eager["response"])
        assert eager["total"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_compiled_run_goes_on_from_its_checkpoint(
    sampler: Sampler, student: TrackerNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_step, "COMPILE_BACKEND", "aot_eager")

    def run(folder: str, *, broken_at: int = -1) -> dict[str, Tensor]:
        stage: Stage = SupervisedStage(copy.deepcopy(student))
        calls = 0

        def stop(module: nn.Module, inputs: object) -> None:  # noqa: ARG001
            nonlocal calls
            calls += 1
            if calls == broken_at:
                raise KeyboardInterrupt

        stage.register_forward_pre_hook(stop)
        train(stage, sampler, SETTINGS, tmp_path / folder)
        return load_network(tmp_path / folder / "network.safetensors").state_dict()

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", broken_at=4)
    torch.testing.assert_close(run("stopped"), whole, rtol=0, atol=0)
