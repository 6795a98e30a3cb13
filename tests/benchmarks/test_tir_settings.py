"""tir_settings.py at toy size: trains, tracks, resumes, and pairs differences by seed."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from pair_folders import write_pairs

from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import save_network

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("tir_settings")


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("parts.tir_settings_report")


def test_it_trains_tracks_and_resumes(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(tmp_path / "pairs", 5)
    torch.manual_seed(0)
    start = tmp_path / "rgb.safetensors"
    save_network(start, TrackerNetwork(single_settings("rgb", width=4, crop_size=96)))
    out = tmp_path / "report.json"
    command = [
        "tir_settings.py",
        "--init-from",
        start,
        "--pairs",
        tmp_path / "pairs",
        "--num-test-pairs",
        2,
        "--out",
        out,
    ]
    command += ["--work-dir", tmp_path / "runs", "--videos", 2, "--length", 3, "--steps", 2, "--seeds", 0]

    def run(*more: object) -> dict[str, object]:
        monkeypatch.setattr(sys, "argv", [str(word) for word in [*command, *more]])
        benchmark.main()
        report: dict[str, object] = json.loads(out.read_text())
        return report

    first = run("--only", "A1", "B1")
    assert list(first["settings"]) == ["A1", "B1", "on RGB"]  # type: ignore[call-overload]
    assert list(first["settings"]["on RGB"]) == ["seeds", "composed"]  # type: ignore[index]
    assert first["experiment"]["frames"] == {"composed": 6}  # type: ignore[index]
    assert str(tmp_path) not in out.read_text()
    assert set(first["loss, first and last steps"]["0"]) == {"B1"}  # type: ignore[index]
    scores = tmp_path / "runs" / "seed_0" / "scores_A1.json"
    before = scores.stat().st_mtime_ns
    second = run("--only", "A1", "B3")
    assert list(second["settings"]) == ["A1", "B1", "B3", "on RGB"]  # type: ignore[call-overload]
    assert scores.stat().st_mtime_ns == before
    third = run("--only", "A1", "--length", 2)  # another experiment: what was written of the first does not count
    assert list(third["settings"]) == ["A1", "on RGB"]  # type: ignore[call-overload]
    assert scores.stat().st_mtime_ns != before


def figures(value: float) -> dict[str, object]:
    each = {"SR": value, "PR": 2 * value, "NPR": 3 * value}
    other = {"SR": 2 * value, "PR": value, "NPR": value}
    return {"composed": {"overall": each, "sequences": {"one": each, "other": other}}}


def test_differences_are_paired_by_seed(report: ModuleType) -> None:
    by_seed = {
        0: {"A1": figures(10), "D3": figures(12), "on RGB": figures(18)},
        1: {"A1": figures(20), "D3": figures(23)},
        2: {"D3": figures(9)},
    }
    settings = report.summary(by_seed)
    assert settings["D3"]["seeds"] == [0, 1, 2]
    assert settings["D3"]["composed"]["SR to A1"] == [2.5, 0.7]
    assert settings["A1"]["composed"]["SR"] == [15, 7.1]
    assert settings["D3"]["composed"]["SR to A1, error over sequences"] == 1.2  # of 2.5 and 5
    lines = report.table({"settings": settings})
    assert len(lines) == 5
    assert lines[2].startswith("| A1 Same as DiMP | none | RGB | RGB | 15.0 ± 7.1 | 30.0")
    assert lines[3].startswith(
        "| D3 Joint learning | BBE and TCL | RGB-TIR (ft) | TIR-RGB (ft) | 14.7 ± 7.4 (+2.5 ± 0.7)"
    )
    assert lines[3].endswith(" | 1.2 | 68.0/80.8/72.7 |")
    assert lines[4].startswith("| A1 on the RGB sides | none | RGB | RGB | 18.0 ± 0.0 (+8.0 ± 0.0)")


def test_claims_use_the_composed_sequences(report: ModuleType) -> None:
    by_seed = {
        0: {"A1": figures(10), "B1": figures(11), "D3": figures(13)},
        1: {"A1": figures(20), "B1": figures(21), "D3": figures(19)},
    }
    claims = report.evaluate_claims(by_seed)
    assert list(claims) == ["BBE: learning on the reference branch helps", "Joint learning on both helps"]
    assert [each["SR"]["beyond the spread"] for each in claims.values()] == ["yes", "within the spread"]


def test_a_claim_must_exceed_the_error_over_sequences(report: ModuleType) -> None:
    by_seed = {seed: {"A1": figures(start), "B1": figures(start + 1)} for seed, start in enumerate((10, 20))}
    for found in by_seed.values():
        found["B1"]["composed"]["sequences"]["other"] = found["A1"]["composed"]["sequences"]["other"]
    found = report.evaluate_claims(by_seed)["BBE: learning on the reference branch helps"]["SR"]
    assert found["error over sequences"] == 0.5  # of 1 and 0
    assert found["beyond the spread"] == "yes"
    for found in by_seed.values():
        found["B1"]["composed"]["sequences"]["other"] = {"SR": 0, "PR": 0, "NPR": 0}
    assert report.evaluate_claims(by_seed)["BBE: learning on the reference branch helps"]["SR"][
        "beyond the spread"
    ] == ("within the spread")


def test_the_papers_figures_and_claims_agree(report: ModuleType) -> None:
    for claim, name, base in report.CLAIMS:
        assert report.PAPER[name][0] > report.PAPER[base][0], claim
