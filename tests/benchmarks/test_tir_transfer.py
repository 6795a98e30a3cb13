"""tir_transfer.py at toy size: its errors equal those of the training stage."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from pair_folders import write_pairs

from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork, to_tir_network
from mmdistill.reference.models.weights import save_network
from mmdistill.reference.training.tir_cmd.stage import CrossModalStage
from mmdistill.tir_cmd import BranchSetting
from mmdistill.toolkit.datasets.image_pairs import open_pairs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("tir_transfer")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs", 4)


def network() -> TrackerNetwork:
    torch.manual_seed(0)
    return TrackerNetwork(single_settings("rgb", width=4, crop_size=96)).eval()


@pytest.mark.parametrize("way", [("rgb", "rgb"), ("tir", "rgb"), ("tir", "tir")])
def test_the_box_error_equals_the_stages(way: tuple[str, str], benchmark: ModuleType, pairs: Path) -> None:
    made = to_tir_network(network())
    found = benchmark.make_test_batches(open_pairs(pairs), made.settings, 2)
    stage = CrossModalStage(made, BranchSetting("", "", ("bbe",), *way, ("reference", "test")))  # type: ignore[arg-type]
    stage.network.eval()
    with torch.no_grad():
        expected = sum(float(stage(batch)["box"]) for batch in found) / 2
    assert benchmark.mean_errors(made, found, way)["box"] == pytest.approx(expected, rel=1e-5)


def test_networks_are_reported_by_name(
    benchmark: ModuleType, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, out = tmp_path / "rgb.safetensors", tmp_path / "report.json"
    save_network(start, network())
    command = [
        "tir_transfer.py",
        "--init-from",
        start,
        "--pairs",
        pairs,
        "--num-test-pairs",
        2,
        "--batches",
        1,
        "--out",
        out,
    ]
    monkeypatch.setattr(sys, "argv", [str(word) for word in [*command, f"B3={start}", f"B3={start}"]])
    benchmark.main()
    report = json.loads(out.read_text())
    first, second = report["networks"].values()
    assert (first.pop("networks"), second.pop("networks")) == (1, 2)
    assert first == second
    lines = benchmark.table(report)
    assert len(lines) == 4
    assert lines[2].startswith(f"| the start | {first['rgb-rgb']['location']:.4f} | ")
