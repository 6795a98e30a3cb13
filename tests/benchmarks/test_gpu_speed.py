"""gpu_speed.py at toy size on a CPU: counts, shares, stored rows and tables."""

import importlib
import json
import re
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
LATER = float("inf")
SMALL = "--device cpu --width 4 --crop 64 --teacher-depth 50 --videos 1 2 --frames 2 --warmup 1 --rounds 1 --seconds 0"
SMALL += (
    " --frame-width 96 --frame-height 80 --batch-size 2 --frames-per-sample 1 --matmul-size 16 --copy-mib 1 --threads 1"
)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.fixture
def gpu_speed(_here: None) -> ModuleType:
    return importlib.import_module("gpu_speed")


def run(gpu_speed: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str) -> Any:
    out = folder / "report.json"
    command = ["gpu_speed.py", *SMALL.split(), "--work-dir", str(folder / "runs"), "--out", str(out), *more]
    monkeypatch.setattr(sys, "argv", command)
    gpu_speed.main()
    return json.loads(out.read_text())


ROWS = {
    "tracking/student, bfloat16": ["1", "2"],
    "training/student alone, float32": [],
    "training/SCFD, float32": [],
    "training/SCFD sampled, float32": [],
    "training/MPSD, float32": [],
    "training/all, float32": [],
    "training/all, with the teacher, float32": [],
    "network/teacher, float32": ["1", "2"],
    "profile/tracking student, bfloat16": ["1"],
    "profile/training student alone, bfloat16": [],
    "experiments/channels last": ["1", "2"],
    "experiments/weights in bfloat16": ["1", "2"],
}
"""Rows of every kind, and their numbers of videos."""


@pytest.mark.slow
def test_rows_of_every_kind_are_measured_small(
    gpu_speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    report = run(gpu_speed, monkeypatch, tmp_path, "--only", *ROWS)
    rows = report["cpu"]["rows"]
    expected = [f"{name}, {count}" if count else name for name, counts in ROWS.items() for count in counts or [""]]
    assert list(rows) == ["ceilings", *expected]
    assert [name for name, row in rows.items() if "failed" in row] == []
    for count in (1, 2):
        row = rows[f"tracking/student, bfloat16, {count}"]
        assert row["frames per second"] > 0
        assert 0 < row["share of crops on the host"] < 1
    # A loss adds to the student's work, and the teacher adds to the losses' work.
    work = {
        name: rows[f"training/{name}, float32"]["multiply-adds"] for name in ("student alone", "SCFD", "MPSD", "all")
    }
    assert work["student alone"] < work["MPSD"] < work["all"]
    assert work["all"] - work["student alone"] == work["SCFD"] + work["MPSD"] - 2 * work["student alone"]
    assert rows["training/SCFD sampled, float32"]["multiply-adds"] < work["SCFD"]
    assert rows["training/all, with the teacher, float32"]["multiply-adds"] > work["all"]
    added = report["cpu"]["relative cost of the losses"]
    assert list(added["float32"]) == ["SCFD", "SCFD sampled", "MPSD", "all"]
    printed = capfd.readouterr().out
    assert re.search(r"\| student, bfloat16, 1 \| [\d.,]+ \| [\d.]+ % \| [\d.,]+ \|( not measured \|){3}", printed)
    assert str(tmp_path) not in json.dumps(report)


def test_every_required_row_exists_and_the_targets_come_first() -> None:
    experiment, rows = (importlib.import_module(f"parts.gpu.{name}") for name in ("experiment", "rows"))
    names = list(rows.rows(experiment.Experiment(device="cuda"), dict))
    for who in ("student", "teacher"):
        assert {f"tracking/{who}, bfloat16, {count}" for count in (1, 8, 32, 128)} <= set(names)
    for part in ("student alone", "SCFD", "SCFD sampled", "MPSD", "HFRD", "all"):
        assert {f"training/{part}, float32", f"training/{part}, bfloat16"} <= set(names)
    assert "experiments/CUDA graph, 1" in names
    order = rows.by_importance(names)
    assert sorted(order) == sorted(names)
    assert order[:7] == [
        "ceilings",
        "tracking/student, bfloat16, 1",
        "tracking/student, bfloat16, 32",
        "training/student alone, bfloat16",
        "training/all, bfloat16",
        "cmd step/float32",
        "cmd step/bfloat16",
    ]
    # What only few need, and what compiles for long, comes last.
    assert order.index("profile/tracking student, bfloat16, 1") < order.index("tracking/teacher, float32, 1")
    assert order[-1].startswith("experiments/")


def test_a_gpu_is_also_measured_without_graphs() -> None:
    rows, tracking = (importlib.import_module(f"parts.gpu.{name}") for name in ("rows", "tracking"))
    experiment = importlib.import_module("parts.gpu.experiment").Experiment
    assert "tracking/student without CUDA graphs, bfloat16, 32" in rows.rows(experiment(device="cuda"), dict)
    assert not [name for name in rows.rows(experiment(device="cpu"), dict) if "without" in name]
    tracker, runners = tracking.BatchTracker, tracking.runners
    with tracking.without_graphs():
        assert tracker.GPU_RUNNER is runners.StepRunner
    assert tracker.GPU_RUNNER is runners.GraphRunner


def test_it_resumes_and_keeps_other_devices(
    gpu_speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").write_text(
        '{"cuda": {"rows": {"network/x": {"milliseconds": 2, "of the roofline": 0.5}}}}'
    )
    first = run(gpu_speed, monkeypatch, tmp_path, "--only", "network/student, float32")
    assert list(first["cpu"]["rows"]) == ["ceilings", "network/student, float32, 1", "network/student, float32, 2"]
    assert "| x | not measured | not measured | 2 | 50.0 % |" in capsys.readouterr().out
    again = run(gpu_speed, monkeypatch, tmp_path, "--time-limit", "0")
    assert again["cpu"]["rows"] == first["cpu"]["rows"]
    assert again["cuda"] == first["cuda"]
    assert re.search(r"unfinished rows: \d+, next tracking/student, bfloat16, 1", capsys.readouterr().out)
    shutil.rmtree(tmp_path / "runs")  # only the report is left
    assert run(gpu_speed, monkeypatch, tmp_path, "--time-limit", "0")["cpu"]["rows"] == first["cpu"]["rows"]
    other = run(gpu_speed, monkeypatch, tmp_path, "--time-limit", "0", "--width", "6")  # another experiment
    assert other["cpu"]["rows"] == {}


def test_a_failed_row_is_reported_and_measured_again(tmp_path: Path) -> None:
    rows = importlib.import_module("parts.gpu.rows")
    asked = []

    def fails() -> dict[str, Any]:
        asked.append(1)
        raise RuntimeError("CUDA out of memory\nand more")

    store = rows.RowStore(tmp_path, {"experiment": 1})
    for _ in range(2):
        measured, unfinished = rows.measure({"bad": fails, "good": lambda: {"milliseconds": 3}}, store, LATER)
        assert measured == {"bad": {"failed": "RuntimeError: CUDA out of memory"}, "good": {"milliseconds": 3}}
        assert unfinished == []
    assert len(asked) == 2
    assert rows.RowStore(tmp_path, {"experiment": 2}).read("good") is None


def test_a_slow_row_is_stopped_and_comes_last_the_next_time(tmp_path: Path) -> None:
    rows = importlib.import_module("parts.gpu.rows")
    asked = []

    def row(name: str) -> dict[str, Any]:
        asked.append(name)
        if name == "slow":
            time.sleep(5)
        return {"milliseconds": 3}

    store, written = rows.RowStore(tmp_path, {}), []
    functions = {name: partial(row, name) for name in ("slow", "next", "new")}
    first, unfinished = rows.measure(
        {name: functions[name] for name in ("slow", "next")},
        store,
        LATER,
        row_limit=0.2,
        after_row=lambda: written.append(1),
    )
    assert (first, unfinished) == ({"slow": {"failed": "longer than 0.2 s"}, "next": {"milliseconds": 3}}, [])
    assert len(written) == 2
    rows.measure(functions, store, LATER, row_limit=0.2)
    assert asked == ["slow", "next", "new", "slow"]


def test_a_row_that_the_time_limit_stops_is_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = importlib.import_module("parts.gpu.rows")
    monkeypatch.setattr(rows, "MIN_ROW_SECONDS", 0.0)
    store = rows.RowStore(tmp_path, {})
    functions = {"slow": lambda: time.sleep(5), "next": dict}
    end = time.monotonic() + 0.2
    assert rows.measure(functions, store, end) == ({}, ["slow", "next"])
    assert time.monotonic() < end + 2
    assert store.read("slow") is None


def test_cost_of_losses_is_relative_to_the_students_step() -> None:
    costs = importlib.import_module("parts.gpu.tables").costs
    rows = {
        f"training/{name}, bfloat16": {"milliseconds": time} for name, time in (("student alone", 20), ("SCFD", 35))
    }
    assert costs(rows) == {"bfloat16": {"SCFD": 0.75}}


def test_targets_are_compared_with_the_gpu_only() -> None:
    table = importlib.import_module("parts.gpu.tables").targets_table
    tracking = {
        f"tracking/student, bfloat16, {count}": {"frames per second": rate} for count, rate in ((1, 299), (32, 4e3))
    }
    training = {
        f"training/{name}, bfloat16": {"milliseconds": time} for name, time in (("student alone", 20), ("all", 40))
    }
    training["training/student alone, bfloat16"]["of the roofline"] = 0.3
    report = {"cuda": {"rows": tracking | training, "machine": {"GPU": "NVIDIA X"}}}
    lines = table(report)
    cells = [line.split(" | ")[-1] for line in lines]
    assert cells == [
        "Measured on NVIDIA X |",
        "---: |",
        "299: missed |",
        "4,000: met |",
        "1.00: missed |",
        "30 %: met |",
    ]
    assert all(line.endswith("| not measured |") for line in table({"cpu": report["cuda"]})[2:])


def test_a_frames_time_is_that_of_tracking_or_of_the_profile() -> None:
    tables = importlib.import_module("parts.gpu.tables").tables
    rows = {
        "network/student, bfloat16, 8": {"milliseconds": 5.0, "of the roofline": 0.5},
        "network/student, bfloat16, 32": {"milliseconds": 6.0, "of the roofline": 0.5},
        "network/student, bfloat16, 1": {"failed": "RuntimeError"},
        "experiments/CUDA graph, 8": {"milliseconds": 2.0, "of the roofline": 0.5},
        "tracking/student, bfloat16, 8": {
            "frames per second": 400.0,
            "share of crops on the host": 0.1,
            "milliseconds of the first frame": 3.0,
        },
        "profile/tracking student, bfloat16, 32": {"seconds": 0.097, "idle": 0.5, "shares": {}},
    }
    found = tables({"cuda": {"rows": rows, "machine": {"GPU": "NVIDIA X"}}})["frame"]
    assert found[0].endswith("| NVIDIA X: network alone, ms | NVIDIA X: network alone, as a CUDA graph, ms |")
    assert [line.split(" | ")[-3:] for line in found[2:]] == [
        ["not measured", "not measured", "not measured |"],
        ["20", "5", "2 |"],
        ["97", "6", "not measured |"],
    ]
    assert [line.split(" | ")[0] for line in found[2:]] == ["| 1", "| 8", "| 32"]


def test_the_gpu_works_for_what_it_is_not_idle() -> None:
    tables = importlib.import_module("parts.gpu.tables").tables
    rows = {
        "profile/tracking student, bfloat16, 1": {"seconds": 0.02, "idle": 0.9, "shares": {}},
        "network/student, bfloat16, 1": {"milliseconds": 4.0, "of the roofline": 0.25},
        "training/all, bfloat16": {"failed": "RuntimeError"},
    }
    lines = tables({"cuda": {"rows": rows}})["bounds"]
    assert lines[2] == "| tracking, one video | 20 | 2 | 1 |"
    assert lines[-1] == "| training step, all | not measured | not measured | not measured |"


def test_a_cmd_step_is_compared_with_plain_pytorch(capfd: pytest.CaptureFixture[str]) -> None:
    cmd_step, cmd_steps, tables = map(
        importlib.import_module, ("parts.gpu.cmd_step", "parts.cmd_steps", "parts.gpu.tables")
    )
    experiment = importlib.import_module("parts.gpu.experiment").Experiment(
        device="cpu", batch_size=2, crop=32, rounds=1, seconds=0
    )
    rows = {f"cmd step/{each}": cmd_step.CMDStepSpeed(experiment).rate(each) for each in ("float32", "bfloat16")}
    steps = rows["cmd step/bfloat16"]["steps"]
    assert list(steps) == ["plain", "library", "library, sampling=0.25", "student"]
    assert steps["plain"]["ratio"] == 1.0
    assert steps["library"]["peak MiB"] is None
    assert capfd.readouterr().err == ""
    lines = tables.tables({"cuda": {"rows": rows}})["cmd step"]
    assert len(lines) == 2 + 8
    assert lines[2].endswith("| 1.00 | unknown |")
    calls = cmd_steps.make_steps(cmd_steps.make_inputs(2, 32), 32)
    torch.testing.assert_close(calls["library"](), calls["plain"](), rtol=1e-4, atol=1e-4)


def test_the_peak_of_a_step_is_above_what_was_allocated_before(monkeypatch: pytest.MonkeyPatch) -> None:
    cmd_steps = importlib.import_module("parts.cmd_steps")
    inputs = cmd_steps.make_inputs(1, 32)
    called: list[str] = []
    figures = {"synchronize": None, "reset_peak_memory_stats": None, "memory_allocated": 3 << 20}
    for name, value in (figures | {"max_memory_allocated": 10 << 20}).items():
        monkeypatch.setattr(torch.cuda, name, lambda _device, name=name, value=value: (called.append(name), value)[1])
    response = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    on_gpu = SimpleNamespace(responses=(response,), clear_gradients=inputs.clear_gradients)
    step = cmd_steps.make_steps(inputs, 32)["library"]
    assert cmd_steps.peak_device_memory(lambda: (called.append("step"), step())[1], on_gpu) == 7
    order = [
        "synchronize",
        "reset_peak_memory_stats",
        "memory_allocated",
        "step",
        "synchronize",
        "max_memory_allocated",
    ]
    assert called == order
    assert cmd_steps.peak_device_memory(step, inputs) is None


def test_rows_are_in_order_of_videos_whatever_was_measured_first() -> None:
    tables = importlib.import_module("parts.gpu.tables").tables
    row = {"milliseconds": 2.0, "of the roofline": 0.5}
    cpu, gpu = ([f"network/{name}" for name in names] for names in (["a, 1", "a, 8", "b"], ["a, 128", "c", "a, 32"]))
    lines = tables({"cpu": {"rows": dict.fromkeys(cpu, row)}, "cuda": {"rows": dict.fromkeys(gpu, row)}})["network"]
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| a, 1", "| a, 8", "| a, 32", "| a, 128", "| b", "| c"]


def test_a_missing_package_is_named() -> None:
    code = "import sys; sys.modules['cv2'] = None; sys.argv = ['gpu_speed.py']; import gpu_speed"
    path = f"{ROOT}:{ROOT / 'benchmarks'}"
    found = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert found.stderr.startswith("gpu_speed: cv2 is not installed; needs torch, einops, numpy, OpenCV")
