"""gradient_limits.py: its figures by hand, and the document's tables."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from written_figures import ROOT, figures, measured

from mmdistill.reference.training.stages import SupervisedStage
from mmdistill.reference.training.train_step import parameter_group


@pytest.fixture(autouse=True)
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("gradient_limits")


def test_the_documents_figures_are_what_was_measured(benchmark: ModuleType) -> None:
    report = measured("gradient_limits")
    assert figures("docs/training.md", "gradient_limits") == benchmark.table(report)
    assert figures("docs/training.md", "gradient_limits terms") == benchmark.terms_table(report)
    assert list(report["rows"]) == [variant.title for variant in benchmark.VARIANTS]
    assert not any(row["skipped steps"] for row in report["rows"].values())


def test_the_measured_factors_are_those_of_the_limits(benchmark: ModuleType) -> None:
    report = measured("gradient_limits")
    limit = report["training"]["clip_grad_norm"]
    for variant in benchmark.VARIANTS:
        parts = report["rows"][variant.title]["parts"]
        whole = np.sqrt(sum(part["norm at step 0"] ** 2 for part in parts.values()))
        for part in parts.values():
            norm = {"part": part["norm at step 0"], "all": whole, None: 0.0}[variant.scope]
            assert part["clip factor at step 0"] == pytest.approx(min(limit / norm, 1) if norm else 1, rel=2e-3)


def test_the_share_of_the_first_step_is_adams(benchmark: ModuleType) -> None:
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(7, 5)) * np.array([9, 1, 2, 3, 1, 1, 4])[:, None]
    moments = []
    for kept in (gradients, np.vstack([0 * gradients[:1], gradients[1:]])):
        moment = np.zeros(5)
        for gradient in kept:
            moment = 0.999 * moment + 0.001 * gradient**2
        moments.append(moment.sum())
    norms = np.linalg.norm(gradients, axis=1)
    assert benchmark.second_moment_share(norms) == pytest.approx(1 - moments[1] / moments[0], rel=1e-12)


@pytest.mark.parametrize("scope", ["part", "all"])
def test_a_step_is_measured_by_part(benchmark: ModuleType, scope: Any) -> None:
    gpu, training = map(importlib.import_module, ("parts.gpu.experiment", "parts.gpu.training"))
    small = gpu.Experiment(device="cpu", threads=1, width=4, crop=96, teacher_depth=18, batch_size=2)
    settings = training.TrainingSettings(batch_size=2, clip_grad_norm=1e-6, clip_scope=scope)
    step = benchmark.MeasuredStep(SupervisedStage(small.network("student")), settings)
    assert not step.run(0, [training.TrainingSpeed(small, lambda: {}).batch()]).skipped
    [norms], [below] = step.norms, step.below_epsilon
    by_part: dict[str, list[torch.Tensor]] = {}
    for name, parameter in step.stage.named_parameters():
        if parameter.grad is not None:
            by_part.setdefault(parameter_group(name), []).append(parameter.grad.flatten().double())
    assert {part: after for part, (_, after) in norms.items()} == pytest.approx(
        {part: float(torch.cat(gradients).norm()) for part, gradients in by_part.items()}
    )
    whole = np.sqrt(sum(before**2 for before, _ in norms.values()))
    for before, after in norms.values():
        assert after == pytest.approx(before * min(1e-6 / ((before if scope == "part" else whole) + 1e-6), 1), rel=1e-4)
    small_entries = torch.cat(by_part["iou_net"]).abs() < 1e-8
    assert below == pytest.approx(float(small_entries.double().mean()), rel=1e-6)
    figures = benchmark.summarize(step)
    assert figures["parts"]["trunk"]["share of step 0 in the second moment"] == 1
