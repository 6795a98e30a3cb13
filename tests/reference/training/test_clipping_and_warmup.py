"""Limits of the gradients' norms by part, and the warm-up of the distillation's weight."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmdistill import Terms
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import (
    BaselineWeights,
    DistillationSettings,
    PartLearningRates,
    TrainingSettings,
)
from mmdistill.reference.training.stages import TRACKING_TERMS, DistilledStage, Stage, SupervisedStage, warmup_factor
from mmdistill.reference.training.train_step import TrainStep, clip_gradients
from mmdistill.reference.training.trainer import train

Vector = NDArray[np.float64]
Scope = Literal["part", "all"]

CPU = torch.device("cpu")
LARGE = 1e6
LIMIT = 1e-2
RATE = 1e-3
STEPS = 5
START: Mapping[str, Vector] = {"trunks": np.array([3.0, -1.0, 0.5]), "iou_net": np.array([0.2, 0.9])}
SCALES = {"trunks": LARGE, "iou_net": 1.0}


class Quadratic(nn.Module):
    """Computes ``scale * |x|^2 / 2``, with the gradient ``scale * x``."""

    def __init__(self, start: Vector, scale: float) -> None:
        super().__init__()
        self.x, self.scale = nn.Parameter(torch.from_numpy(start.copy())), scale

    def forward(self) -> Tensor:
        return self.scale * self.x.square().sum() / 2


class ToyStage(Stage):
    """A stage of these parts of ``START``."""

    def __init__(self, *parts: str) -> None:
        super().__init__()
        self.used = parts
        self.network = nn.ModuleDict({name: Quadratic(START[name], SCALES[name]) for name in START})  # type: ignore[assignment]
        self.network.__dict__["trunks"], self.network.__dict__["iou_net"] = self.network.values()  # type: ignore[operator]

    def prepare(self, settings: TrainingSettings) -> None:
        del settings

    def forward(self, batch: Batch) -> Terms:
        del batch
        return Terms.summed(**{name: getattr(self.network, name)() for name in self.used})


def learned(batch: Batch, *parts: str, scope: Scope, limit: float = LIMIT) -> dict[str, Vector]:
    """Return the parts' parameters after some steps."""
    settings = TrainingSettings(
        batch_size=2, clip_grad_norm=limit, clip_scope=scope, learning_rates=PartLearningRates(*[RATE] * 6)
    )
    training = TrainStep(ToyStage(*parts), settings, CPU, DistributedContext())
    for number in range(STEPS):
        assert not training.run(number, [batch]).skipped
    return {name: getattr(training.stage.network, name).x.detach().numpy() for name in parts}


def by_hand(scope: Scope) -> dict[str, Vector]:
    """Return the same, computed by NumPy: Kingma and Ba's Adam, with clipped gradients."""
    x = {name: value.copy() for name, value in START.items()}
    first = {name: np.zeros_like(value) for name, value in x.items()}
    second = {name: np.zeros_like(value) for name, value in x.items()}
    for step in range(1, STEPS + 1):
        gradients = {name: SCALES[name] * value for name, value in x.items()}
        norms = {name: np.sqrt((gradient**2).sum()) for name, gradient in gradients.items()}
        whole = np.sqrt(sum(norm**2 for norm in norms.values()))
        for name, gradient in gradients.items():
            clipped = gradient * min(LIMIT / ((norms[name] if scope == "part" else whole) + 1e-6), 1)
            first[name] = 0.9 * first[name] + 0.1 * clipped
            second[name] = 0.999 * second[name] + 0.001 * clipped**2
            mean, square = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
            x[name] = x[name] - RATE * mean / (np.sqrt(square) + 1e-8)
    return x


@pytest.mark.parametrize("scope", ["part", "all"])
def test_clipped_steps_are_those_of_numpy(scope: Scope, batch: Batch) -> None:
    expected = by_hand(scope)
    for name, value in learned(batch, *START, scope=scope).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-12)


def test_with_a_limit_per_part_a_large_gradient_elsewhere_changes_nothing(batch: Batch) -> None:
    alone = learned(batch, "iou_net", scope="part")["iou_net"]
    np.testing.assert_array_equal(learned(batch, *START, scope="part")["iou_net"], alone)
    # One limit for all shrinks the part's gradient below Adam's epsilon, 1e-8, so that it moves less.
    together = learned(batch, *START, scope="all")["iou_net"]
    assert (np.abs(together - START["iou_net"]) < 0.5 * np.abs(alone - START["iou_net"])).all()


@pytest.mark.parametrize("scope", ["part", "all"])
def test_a_limit_above_all_norms_changes_nothing(scope: Scope, batch: Batch) -> None:
    free = learned(batch, *START, scope=scope, limit=0.0)
    for name, value in learned(batch, *START, scope=scope, limit=1e9).items():
        np.testing.assert_array_equal(value, free[name])


def test_all_parts_as_one_are_clipped_as_by_pytorch() -> None:
    torch.manual_seed(0)
    ours, theirs = ([nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(5))] for _ in range(2))
    for limit in (1e-3, 1.0, 1e3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        [norm] = clip_gradients([ours], limit)
        assert torch.equal(norm, nn.utils.clip_grad_norm_(theirs, limit))
        assert all(torch.equal(one.grad, other.grad) for one, other in zip(ours, theirs, strict=True))  # type: ignore[arg-type]


def test_a_part_that_got_no_gradient_is_left_out(student: TrackerNetwork, batch: Batch) -> None:
    student.fusions.requires_grad_(False)
    settings = TrainingSettings(batch_size=2, clip_grad_norm=1e-3, clip_scope="part")
    training = TrainStep(SupervisedStage(student), settings, CPU, DistributedContext())
    groups = {name.partition(".")[0] for name, each in student.named_parameters() if each.requires_grad}
    assert groups == {"trunks", "classifier", "iou_net"}
    for each in student.iou_net.parameters():
        each.requires_grad_(False)  # after the optimizer was built
    assert not training.run(0, [batch]).skipped
    norms = [
        torch.stack([each.grad.norm() for each in group["params"]]).norm().item()
        for group in training.optimizer.param_groups
        if group["params"][0].grad is not None
    ]
    assert len(norms) == 3  # trunk, classifier and optimizer
    assert all(norm < 1e-3 * (1 + 1e-6) for norm in norms)
    assert any(norm == pytest.approx(1e-3, rel=1e-2) for norm in norms)


def test_the_warm_up_rises_linearly() -> None:
    assert [warmup_factor(step, 4) for step in range(7)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1], rel=1e-15)
    assert warmup_factor(4, 4) == warmup_factor(0, 0) == 1.0


def distilled(student: TrackerNetwork, teacher: TrackerNetwork, warmup_steps: int) -> DistilledStage:
    torch.manual_seed(4)
    weights = BaselineWeights(fitnets=0.5)
    settings = DistillationSettings(("hfrd", "fitnets"), beta=7.0, baselines=weights, warmup_steps=warmup_steps)
    return DistilledStage(copy.deepcopy(student), teacher, distillation=settings)


def expected_total(values: Mapping[str, float], factor: float) -> float:
    """Return the weighted sum of the logged terms."""
    tracking = values["box"] + 100 * (values["last"] + values["first"]) + 400 * values["middle"]
    return tracking + factor * (7.0 * values["response"] + 0.5 * values["hint"])


@pytest.mark.parametrize("passes", [1, 2])
def test_the_total_has_the_steps_factor_and_the_terms_have_not(
    passes: int, student: TrackerNetwork, teacher: TrackerNetwork, batch: Batch
) -> None:
    settings = TrainingSettings(batch_size=2 * passes, grad_accumulation=passes, log_gradient_shares=1)
    first = {}
    for warmup_steps in (0, 2):
        training = TrainStep(distilled(student, teacher, warmup_steps), settings, CPU, DistributedContext())
        results = [training.run(number, [batch] * passes) for number in range(4)]
        first[warmup_steps] = results[0]
        for number, result in enumerate(results):
            factor = min((number + 1) / (warmup_steps + 1), 1)
            assert result.values["total"] == pytest.approx(expected_total(result.values, factor), rel=1e-5)
    full, warm = first[0], first[2]
    for name, value in full.values.items():
        assert (warm.values[name] == value) == (name != "total")
        if name != "total":
            factor = 1 if name in TRACKING_TERMS else 1 / 3
            norm = f"gradient norm {name}"
            assert warm.logged[norm] == pytest.approx(factor * full.logged[norm], rel=1e-5)


def test_the_gradient_has_the_steps_factor(student: TrackerNetwork, teacher: TrackerNetwork, batch: Batch) -> None:
    student, teacher, batch = student.double(), teacher.double(), batch.map(Tensor.double)
    stages = {
        "alone": SupervisedStage(copy.deepcopy(student)),
        "full": distilled(student, teacher, 0),
        "quarter": distilled(student, teacher, 3),
    }
    gradients = {}
    for name, stage in stages.items():
        training = TrainStep(
            stage.double(), TrainingSettings(batch_size=2, clip_grad_norm=0.0), CPU, DistributedContext()
        )
        assert not training.run(0, [batch]).skipped
        gradients[name] = {
            key: torch.zeros_like(each) if each.grad is None else each.grad for key, each in stage.named_parameters()
        }
    for key, quarter in gradients["quarter"].items():
        full = gradients["full"][key]
        tracking = gradients["alone"].get(key, torch.zeros_like(full))
        torch.testing.assert_close(quarter, tracking + (full - tracking) / 4, rtol=1e-8, atol=1e-10)
        assert key not in gradients["alone"] or key.startswith("network.iou_net") or not torch.equal(full, tracking)


def test_without_warm_up_the_terms_are_the_same_object(student: TrackerNetwork, teacher: TrackerNetwork) -> None:
    terms = Terms.summed(box=torch.tensor(1.0), response=torch.tensor(2.0))
    assert distilled(student, teacher, 0).weigh(terms, 0) is terms
    stage = distilled(student, teacher, 2)
    assert stage.weigh(terms, 2) is terms
    assert stage.weigh(terms, 1).weights == {"box": 1.0, "response": pytest.approx(2 / 3)}


class StoppedError(Exception):
    """Stands for the death of a process."""


def test_a_resumed_run_goes_on_with_its_steps_factors(
    sampler: Sampler, student: TrackerNetwork, teacher: TrackerNetwork, tmp_path: Path
) -> None:
    settings = TrainingSettings(steps=4, batch_size=2, checkpoint_every=1)

    def run(folder: str, *, stop_at: int = -1) -> bytes:
        stage = distilled(student, teacher, 3)
        calls = iter(range(9))

        def stop(*_: object) -> None:
            if next(calls) == stop_at:
                raise StoppedError

        stage.register_forward_pre_hook(stop)
        train(stage, sampler, settings, tmp_path / folder, progress=False)
        return (tmp_path / folder / "network.safetensors").read_bytes()

    whole = run("whole")
    with pytest.raises(StoppedError):
        run("stopped", stop_at=2)
    assert run("stopped") == whole
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "stopped")]
    assert logs[0] == logs[1]
    for line in map(json.loads, logs[0].splitlines()):
        assert line["total"] == pytest.approx(expected_total(line, (line["step"] + 1) / 4), rel=1e-5)
