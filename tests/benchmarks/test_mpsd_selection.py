"""mpsd_selection.py: order of the runs, records, and tables."""

import importlib
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from written_figures import ROOT, figures, measured

from mmdistill import MPSDFusion, Pair
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import save_network
from mmdistill.toolkit.data_issues import DataError


@pytest.fixture(autouse=True)
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("mpsd_selection")


def part(name: str) -> ModuleType:
    return importlib.import_module(f"parts.selection.{name}")


@pytest.mark.parametrize(
    ("mark", "table"), [("", "selection_table"), (" scores", "scores_table"), (" rms", "rms_table")]
)
def test_the_pages_tables_match_the_report(mark: str, table: str) -> None:
    report = measured("mpsd_selection")
    assert figures("docs/fusion.md", f"mpsd_selection{mark}") == getattr(part("report"), table)(report)


def test_the_reports_rows_match_its_runs() -> None:
    report = measured("mpsd_selection")
    assert json.loads(json.dumps(part("report").summary(report["runs"]))) == report["rows"]
    level = report["rows"]["ImageNet trunk, own loss alone"]["none"]["level 4"]
    runs = report["runs"]["ImageNet trunk, own loss alone"]["none"].values()
    assert level["low entropy"] == sum(run["held out"]["level 4"]["entropy"] < 0.1 for run in runs)


def test_differences_are_paired_by_seed() -> None:
    level = {
        "collapsed": None,
        "entropy": 0.5,
        "entropy_of_mean": 0.5,
        "mean_weights": [0.5, 0.5, 0.0],
        "preferred": [1.0, 0.0, 0.0],
        "path rms": [1.0, 2.0, 3.0],
    }

    def run(pr: float, sr: float) -> dict[str, Any]:
        return {"PR": pr, "SR": sr, "held out": {"level 3": level, "level 4": level | {"collapsed": 1}}}

    variants = {
        "none": {"0": run(50, 40), "1": run(60, 50), "2": run(10, 10)},
        "layer_norm": {"0": run(52, 40), "1": run(64, 49)},
    }
    found = part("report").summary({"block": variants})["block"]["layer_norm"]
    assert found["PR to none"] == [3.0, -9.7, 15.7]  # 2 and 4: 3 +- 12.706 x 1
    assert found["level 4"]["collapsed"] == 2
    assert found["level 3"]["collapsed"] == 0


def test_selection_is_recorded_every_fifty_steps(tmp_path: Path) -> None:
    watch = part("recording")
    shallow, deep = MPSDFusion(4), MPSDFusion(6)
    with watch.recording(tmp_path):
        for step in range(51):
            (tmp_path / "log.jsonl").write_text("{}\n" * step)
            for _ in range(watch.CALLS_PER_STEP):
                for block, channels in ((shallow, 4), (deep, 6)):
                    block(Pair(*torch.randn(2, 2, channels, 3, 3).unbind()))
        shallow.eval()(Pair(*torch.randn(2, 2, 4, 3, 3).unbind()))
    found = watch.recorded(tmp_path)
    assert list(found) == ["level 3", "level 4"]
    assert [line["step"] for line in found["level 4"]] == [0, 50]
    assert all(0 < line["entropy"] <= 1 for level in found.values() for line in level)


def test_selection_is_measured_by_level(tmp_path: Path) -> None:
    watch, video = part("recording"), importlib.import_module("mmdistill.reference.synthetic")
    network = TrackerNetwork(NetworkSettings(width=4, crop_size=96))
    network.fusions[1].path_weights[2].weight.data.zero_()
    network.fusions[1].path_weights[2].bias.data = torch.tensor([0.0, 0.0, 9.0])
    save_network(tmp_path / "network.safetensors", network)
    settings = video.SyntheticSettings(length=4, size=(160, 120), target_size=(16.0, 24.0))
    sequences = video.synthetic_sequences(1, seed=0, settings=settings)
    found = watch.measure(tmp_path / "network.safetensors", sequences, "cpu")
    assert found["level 4"]["collapsed"] == 2
    assert found["level 4"]["preferred"] == [0, 0, 1]
    assert found["level 3"]["collapsed"] is None
    assert all(len(level["path rms"]) == 3 for level in found.values())


def test_distilled_students_wait_for_the_teacher_and_a_failure_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduling, rows = part("scheduling"), part("rows")
    runs, sizes = map(importlib.import_module, ("parts.ablation.runs", "parts.ablation.sizes"))
    size = sizes.SIZES["cpu"]
    chosen = importlib.import_module("parts.ablation.rows").Weights(1.0, 1.0)
    group, taught = rows.Group("random", "alone"), rows.Group("random", "mpsd")
    asked = [
        rows.student_run(taught, "none", 0, size, chosen),
        *(rows.student_run(group, variant, 0, size, chosen) for variant in ("none", "paths")),
        runs.teacher_run(size),
    ]
    executed: list[str] = []

    def execute_and_measure(run: Any, context: Any) -> str:
        executed.append(run.folder)
        if run.folder.endswith("paths/seed_0"):
            raise RuntimeError("broken")
        folder = context.root / run.folder
        folder.mkdir(parents=True)
        (folder / runs.NETWORK).touch()
        return ""

    monkeypatch.setattr(scheduling, "execute_and_measure", execute_and_measure)
    monkeypatch.setattr(scheduling, "ProcessPoolExecutor", lambda jobs, _context: ThreadPoolExecutor(jobs))
    execution = importlib.import_module("parts.ablation.execution")
    context = execution.RunContext(runs.Experiment(size), tmp_path, "cpu", 1, time.time() + 60, progress=False)
    calls: list[int] = []
    unfinished = scheduling.execute_all(
        asked, dict.fromkeys(("random", "teacher"), context), 1, lambda: calls.append(1)
    )
    assert executed == [asked[1].folder, asked[2].folder, "teacher", asked[0].folder]
    assert len(calls) == 4
    [failed] = unfinished
    assert "random/alone/paths/seed_0" in failed
    assert "RuntimeError: broken" in failed


def test_another_comparisons_folder_is_refused(benchmark: ModuleType, tmp_path: Path) -> None:
    benchmark.mark_folder(tmp_path, {"steps": 1})
    benchmark.mark_folder(tmp_path, {"steps": 1})
    with pytest.raises(DataError, match="other settings"):
        benchmark.mark_folder(tmp_path, {"steps": 2})


def test_the_command_line_changes_the_presets(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["mpsd_selection.py", "--out", "report.json", "--steps", "40", "--teacher-steps", "60", "--videos", "6"]
    monkeypatch.setattr(sys, "argv", command)
    cpu = benchmark.SIZES["cpu"]
    size = benchmark.override_size(cpu, benchmark.parse_arguments())
    assert (size.student.steps, size.student.freeze_bn_after, size.teacher.steps) == (40, 20, 60)
    assert size.validation == (6, 2)
    assert replace(size, student=cpu.student, teacher=cpu.teacher, validation=cpu.validation, batch_size=4) == cpu
