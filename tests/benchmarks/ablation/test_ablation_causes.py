"""What was suspected is tried beside what was chosen, with one thing changed, and is kept for the next machine."""

import importlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ablation_toy import Command, part, toy


@pytest.fixture
def causes() -> ModuleType:
    return importlib.import_module("ablation_causes")


def test_a_try_differs_in_one_thing_from_what_was_chosen(causes: ModuleType) -> None:
    size, sizes, runs = toy(part("sizes")), part("sizes"), part("runs")
    chosen = sizes.Chosen(sizes.Factors(2.0, 0.5), 0.1, 10.0)

    def differs(name: str, row: str) -> dict[str, Any]:
        tried = causes.TRIES[name].run(name, size, chosen)
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
    assert causes.TRIES["scfd"].run("scfd", same, chosen).training == same.student_training(1000, chosen.factors)
    size = same
    assert differs("student_long", "student") == {"steps": 6, "statistics_until": 3}
    assert differs("cmd_beta", "cmd") == {"beta": 100.0}
    assert differs("cmd_unclipped", "cmd") == {"gradient_limit": 0.0}
    [(name, rates)] = differs("blocks_slow", "blocks").items()
    assert name == "learning_rates"
    assert rates == asdict(replace(size.student_training(0, chosen.factors).learning_rates, fusion=1e-4))
    assert len({each.run(name, size, chosen).folder for name, each in causes.TRIES.items()}) == len(causes.TRIES)


def test_causes_are_tried_with_the_ablations_teacher_and_kept(
    run: Command, pairs: Path, causes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--seeds", 0, "--choose")
    monkeypatch.setitem(causes.SIZES, "nightly", toy(part("sizes")))  # of which the toy has the name
    out = tmp_path / "causes.json"

    def call(*more: object) -> dict[str, Any]:
        command = ["ablation_causes.py", "--ablation", tmp_path / "report.json", "--pairs", pairs, "--device", "cpu"]
        command += ["--runs", tmp_path / "runs", "--out", out, *more]
        monkeypatch.setattr(sys, "argv", [str(word) for word in command])
        causes.main()
        report: dict[str, Any] = json.loads(out.read_text())
        return report

    done = call("--only", "cmd_beta")
    assert done["left"] == []
    assert set(done["tries"]) == {"teacher", "cmd", "cmd_beta"}  # a toy has one learning rate, tried with CMD alone
    assert causes.table(done)[4].startswith("| CMD | ")
    kept = json.loads(out.read_text())
    kept["tries"]["cmd_beta"]["PR"] = 12.5
    out.write_text(json.dumps(kept))
    more = call("--only", "cmd_beta", "blocks")
    assert more["tries"]["cmd_beta"]["PR"] == 12.5
    assert "blocks" in more["tries"]
    kept["teacher"] = "another"
    out.write_text(json.dumps(kept))
    assert call("--only", "cmd_beta")["tries"] == done["tries"]
    with pytest.raises(SystemExit, match="measured with other settings"):
        call("--trunk", "other.npz")
