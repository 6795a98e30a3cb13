"""The ablation's networks track again at other thresholds, without training; what is finished stays."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ablation_toy import Command, part, toy


def test_finished_networks_track_at_each_threshold(
    run: Command, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    thresholds = importlib.import_module("ablation_thresholds")
    measured = run("--seeds", 0, 1, "--tables", 1, "--only", "student", "cmd", "--alpha", 0.1, "--beta", 10)
    monkeypatch.setitem(thresholds.SIZES, "nightly", toy(part("sizes")))  # of which the toy has the name
    out, runs = tmp_path / "thresholds.json", tmp_path / "runs"

    def call(*more: object) -> Any:
        command = ["ablation_thresholds.py", "--pairs", pairs, "--work-dir", runs, "--out", out, "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", [str(word) for word in [*command, *more]])
        thresholds.main()
        return json.loads(out.read_text())

    stopped = call("--only", "cmd", "--time-limit", 0)
    assert len(stopped["unfinished"]) == 4
    monkeypatch.setattr(thresholds, "THRESHOLDS", (0.1, 90.0))
    report = call()
    assert report["unfinished"] == []
    assert {row for rows in report["by seed"].values() for row in rows} == {"student", "cmd"}
    for seed, rows in report["by seed"].items():
        for row, by_threshold in rows.items():
            assert list(by_threshold) == ["0.25", "0.1", "90"]
            before = measured["by seed"][seed][row]
            assert all(by_threshold["0.25"][name] == before[name] for name in ("PR", "SR", "sequences"))
            assert by_threshold["90"]["tracker's score"]["not found"] == 100.0
            folders = {runs / f"thresholds/{name}/seed_{seed}/{row}" for name in ("0.1", "90")}
            assert not [path for folder in folders for path in folder.rglob("*.safetensors")]
    # A target that is never found keeps its first box.
    boxes = [np.loadtxt(path, delimiter=",") for path in (runs / "thresholds/90").rglob("composed_0000.txt")]
    assert len(boxes) == 4
    assert all((each == each[0]).all() for each in boxes)
    lines = thresholds.table(report)
    assert [line.split(" | ")[1] for line in lines[2:]] == ["0.25", "0.1", "90"] * 2
    assert "| Student | 90 | 2 |" in capsys.readouterr().out
    changed = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    assert call()["by seed"] == report["by seed"]
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == changed
    monkeypatch.setitem(thresholds.SIZES, "nightly", replace(toy(part("sizes")), held_out_length=4))
    with pytest.raises(SystemExit, match="other settings of the test video: held_out_length"):
        call()


def test_frames_below_the_threshold_are_not_found() -> None:
    boxes = np.tile([10.0, 10.0, 20.0, 20.0], (4, 1))
    sequence, scores = SimpleNamespace(name="one", boxes=boxes), {"one": np.array([0.0, 0.3, 0.2, 0.05])}
    confidence = part("execution").confidence
    assert confidence({"one": boxes}, scores, [sequence])["not found"] == pytest.approx(200 / 3, abs=1e-4)
    assert confidence({"one": boxes}, scores, [sequence], 0.1)["not found"] == pytest.approx(100 / 3, abs=1e-4)


def test_the_table_has_intervals_over_seeds_and_sequences() -> None:
    def scores(value: float) -> dict[str, Any]:
        sequences = {figure: [value, value + 2] for figure in ("PR", "NPR", "SR")}
        score = {"on target": 0.5, "off target": None, "not found": 10.0}
        return {"PR": value + 1, "SR": value + 1, "sequences": sequences, "tracker's score": score}

    by_seed = {
        str(seed): {"cmd": {"0.25": scores(40.0), "0.1": scores(43.0 + seed / 10), "0.05": scores(40.0)}}
        for seed in range(5)
    }
    lines = importlib.import_module("ablation_thresholds").table({"by seed": by_seed})
    title = "+ SCFD + MPSD + HFRD (CMD)"
    assert lines[2] == f"| {title} | 0.25 | 5 | 41.0 ± 0.0 | 41.0 ± 0.0 |  |  | 0.50 | none | 10.0 % |"
    assert "| +3.2, +3.0 to +3.4: excludes 0 |" in lines[3]
    assert "| +0.0, +0.0 to +0.0: includes 0 |" in lines[4]
