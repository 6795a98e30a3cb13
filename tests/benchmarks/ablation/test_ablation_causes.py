"""Variants change one setting of the chosen training, use the ablation's teacher, and are kept in the report."""

import importlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ablation_toy import Command, part, toy
from torch import Tensor

from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.synthetic import synthetic_sequences
from mmdistill.reference.training.data_loader import collate
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.train_step import freeze_batch_norm


@pytest.fixture
def causes() -> ModuleType:
    return importlib.import_module("ablation_causes")


def test_a_variant_changes_one_setting(causes: ModuleType) -> None:
    size, sizes, runs = toy(part("sizes")), part("sizes"), part("runs")
    size = replace(size, student=replace(size.student, warmup_steps=4), factors=sizes.RateFactors(2.0, 0.5))
    chosen = part("rows").Weights(0.1, 10.0)

    def differs(name: str, row: str) -> dict[str, Any]:
        tried = causes.VARIANTS[name].run(name, size, chosen)
        base = runs.choice_run(size, row, 1000, chosen)
        assert (tried.network, tried.tracks, tried.seed) == (base.network, "validation", 1000)
        pairs = [(tried.training, base.training), (tried.distillation, base.distillation)]
        return {
            field: value
            for one, other in pairs
            if one is not None
            for field, value in asdict(one).items()
            if value != asdict(other)[field]
        }

    same = replace(size, choice_steps=size.student.steps)
    assert causes.VARIANTS["scfd"].run("scfd", same, chosen).training == same.student_training(1000)
    size = same
    assert differs("cmd", "cmd") == differs("cmd_kept", "cmd") == differs("cmd_half", "cmd") == {}
    assert differs("student_long", "student") == {"steps": 6, "freeze_bn_after": 3}
    assert differs("cmd_beta", "cmd") == {"beta": 100.0}
    assert differs("cmd_warm", "cmd") == {"warmup_steps": 20}
    base = size.student_training(0).learning_rates
    assert differs("cmd_adaptors", "cmd") == {"learning_rates": asdict(replace(base, distillation=1.2e-2))}
    assert differs("cmd_unclipped", "cmd") == {"clip_grad_norm": 0.0}
    [(name, rates)] = differs("blocks_slow", "blocks").items()
    assert name == "learning_rates"
    assert rates == asdict(replace(base, fusion=1e-4))
    assert len({each.run(name, size, chosen).folder for name, each in causes.VARIANTS.items()}) == len(causes.VARIANTS)


def test_variants_use_the_ablations_teacher_and_are_kept(
    run: Command, pairs: Path, causes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--seeds", 0, "--only-choose")
    monkeypatch.setitem(causes.SIZES, "nightly", toy(part("sizes")))  # of which the toy has the name
    out = tmp_path / "causes.json"

    def call(*more: object) -> dict[str, Any]:
        command = ["ablation_causes.py", "--ablation", tmp_path / "report.json", "--pairs", pairs, "--device", "cpu"]
        command += ["--work-dir", tmp_path / "runs", "--out", out, *more]
        monkeypatch.setattr(sys, "argv", [str(word) for word in command])
        causes.main()
        report: dict[str, Any] = json.loads(out.read_text())
        return report

    done = call("--only", "cmd_beta")
    assert done["unfinished"] == []
    assert set(done["variants"]) == {"cmd_beta"}
    assert causes.table(done)[2] == "| Teacher | not measured | not measured | not measured |"
    assert len(causes.confidence_table(done)) == 3
    kept = json.loads(out.read_text())
    kept["variants"]["cmd_beta"]["PR"] = 12.5
    out.write_text(json.dumps(kept))
    more = call("--only", "cmd_beta", "blocks")
    assert more["variants"]["cmd_beta"]["PR"] == 12.5
    assert "blocks" in more["variants"]
    kept["teacher"] = "another"
    out.write_text(json.dumps(kept))
    assert call("--only", "cmd_beta")["variants"] == done["variants"]
    half = call("--only", "teacher", "teacher_half", "cmd_half")
    assert set(half["variants"]) == {"cmd_beta", "teacher", "teacher_half", "cmd_half"}
    assert len((tmp_path / "runs/causes/half_trained_teacher/log.jsonl").read_text().splitlines()) == 1
    assert call("--only", "cmd_kept", "--time-limit", 0)["unfinished"] == ["causes/cmd_kept: step 0 of 1"]
    with pytest.raises(SystemExit, match="measured with other settings"):
        call("--trunk", "other.npz")


def test_adaptors_are_frozen_with_the_network() -> None:
    size, row = toy(part("sizes")), part("rows").ROWS["cmd"]
    networks = [TrackerNetwork(settings) for settings in (size.student_network(row), size.teacher_network())]
    stage = part("execution").FrozenAdaptorStage(
        *networks, distillation=row.distillation(part("rows").Weights(1.0, 1.0))
    )
    sampler = Sampler(
        synthetic_sequences(2, seed=0, settings=size.video), size.crop_size, 5.0, size.student.samples, seed=0
    )
    batch = collate([sampler.sample(number) for number in range(2)]).to("cpu")
    stage.prepare(size.student)

    def statistics() -> list[Tensor]:
        return [buffer.clone() for buffer in stage.distillation.buffers()]

    def moved() -> bool:
        before = statistics()
        stage(batch)
        return any(not value.equal(other) for value, other in zip(before, statistics(), strict=True))

    assert statistics()
    assert moved()
    freeze_batch_norm(stage.network)
    assert not moved()


def test_confidence_on_and_off_the_target() -> None:
    """Five frames; the first does not count and one has no label."""
    target = np.array([10.0, 10.0, 20.0, 20.0])
    truth = np.array([target, target, target, np.full(4, np.nan), target])
    near, far = np.array([5.0, 0, 0, 0]), np.array([90.0, 0, 0, 0])
    boxes = np.array([target, target, target + near, target, target + far])
    sequence = SimpleNamespace(name="one", boxes=truth)
    scores = {"one": np.array([1.0, 0.9, 0.7, 0.1, 0.2])}
    found = part("execution").confidence({"one": boxes}, scores, [sequence])
    assert found == {"on target": 0.8, "off target": 0.2, "not found": pytest.approx(100 / 3, abs=1e-4)}
    always = part("execution").confidence({"one": truth}, scores, [sequence])
    assert always["off target"] is None
