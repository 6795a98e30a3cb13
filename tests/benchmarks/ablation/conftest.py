"""The ablation as a module, a folder of pairs, and the benchmark run at toy size."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from ablation_toy import Command, part, toy

from mmdistill.reference.data.images import write_image

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture(autouse=True)
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("ablation")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder of twelve aligned pairs."""
    generator = np.random.default_rng(0)
    for number in range(12):
        for side in ("rgb", "tir"):
            coarse = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            image = np.asarray(cv2.resize(coarse, (320, 240)), np.uint8)
            write_image(tmp_path / "pairs" / side / f"{number:02d}.png", image)
    return tmp_path / "pairs"


@pytest.fixture
def run(ablation: ModuleType, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the benchmark at toy size and return its report; a toy has too little video for every attribute."""
    monkeypatch.setitem(ablation.SIZES, "cpu", toy(part("sizes")))
    monkeypatch.setattr(ablation, "described", lambda videos: {"test sequences": len(videos.test())})
    out = tmp_path / "report.json"

    def call(*more: object) -> dict[str, Any]:
        command = ["ablation.py", "--pairs", pairs, "--runs", tmp_path / "runs", "--out", out, "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", [str(word) for word in [*command, *more]])
        ablation.main()
        report: dict[str, Any] = json.loads(out.read_text())
        return report

    return call
