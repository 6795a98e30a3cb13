"""Fixtures: the ablation's module, a folder of pairs, and a run at toy size."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ablation_toy import Command, part, toy
from pair_folders import write_pairs

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture(autouse=True)
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("ablation")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder of twelve aligned pairs."""
    return write_pairs(tmp_path / "pairs", 12)


@pytest.fixture
def run(ablation: ModuleType, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the benchmark at toy size and return its report; the check of attributes is off."""
    monkeypatch.setitem(ablation.SIZES, "cpu", toy(part("sizes")))
    monkeypatch.setattr(ablation, "describe", lambda videos: {"test sequences": len(videos.test())})
    out = tmp_path / "report.json"

    def call(*more: object) -> dict[str, Any]:
        command = ["ablation.py", "--pairs", pairs, "--work-dir", tmp_path / "runs", "--out", out, "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", [str(word) for word in [*command, *more]])
        ablation.main()
        report: dict[str, Any] = json.loads(out.read_text())
        return report

    return call
