"""input_speed.py at toy size: its parts add up, are measured separately, and leave no files."""

import importlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SMALL = "--sizes 160x120 --videos 2 --length 3 --samples 2 --repeats 1 --batch 2 --batches 2 --workers 0 1 "
SMALL += "--crop-size 96 --steps 2 --width 4 --folders 3 --frames 10"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield importlib.import_module("input_speed")
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def test_parts_are_measured_separately(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "work"))
    (tmp_path / "work").mkdir()
    out = tmp_path / "report.json"
    benchmark.main([*SMALL.split(), "--out", str(out)])
    report = json.loads(out.read_text())
    assert list(report) == ["speed", "steps", "opening"]
    [found] = report["speed"]["sizes"].values()
    times = found["milliseconds a sample"]
    in_workers = sum(times[part] for part in ("decode", "crop", "jitter", "batch"))
    assert times["total"] == pytest.approx(in_workers, abs=0.03)
    assert min(times.values()) > 0
    assert [each["workers"] for each in found["loading"]] == [0, 1]
    assert all(0 <= run["data_wait"] < 1 for run in report["steps"]["cpu"]["runs"])
    assert (report["opening"]["folders"], report["opening"]["frame pairs"]) == (3, 10)
    assert list((tmp_path / "work").glob("input_speed_*")) == []
    by_workers = found["loading"][1]["per core"]
    assert benchmark.table(report)[2].endswith(f"| {by_workers:.0f} | {16 * by_workers:.0f} |")
    assert len(benchmark.steps_table(report)) == 2 + 2 + 1

    benchmark.main([*SMALL.split(), "--out", str(out), "--parts", "opening", "--frames", "7"])
    again = json.loads(out.read_text())
    assert again["opening"]["frame pairs"] == 7
    assert {part: again[part] for part in ("speed", "steps")} == {part: report[part] for part in ("speed", "steps")}
