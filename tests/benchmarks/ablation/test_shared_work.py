"""The ablation's reused samples and features: the same weights and scores, computed once."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from ablation_toy import Command, part

GIVEN = ("--seeds", 0, "--tables", 1, 4, "--alpha", 0.1, "--beta", 10, "--only", "student", "scfd", "cmd")


def weights(root: Path) -> dict[str, bytes]:
    return {file.parent.name: file.read_bytes() for file in root.glob("seed_0/*/network.safetensors")}


def test_reused_work_changes_no_result(run: Command, tmp_path: Path) -> None:
    computed = run(*GIVEN)
    reused = run(*GIVEN, "--reuse", "--work-dir", tmp_path / "reuse")
    assert weights(tmp_path / "reuse") == weights(tmp_path / "runs")
    assert reused["by seed"] == computed["by seed"]
    assert not (tmp_path / "runs" / "reused").exists()


def test_a_row_draws_no_sample_and_asks_no_teacher_again(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*GIVEN, "--reuse")
    before = weights(tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "seed_0" / "scfd")
    work = part("shared_work")

    def never(*_: Any) -> None:
        pytest.fail("drawn or computed again")

    monkeypatch.setattr(part("execution").Sampler, "sample", never)
    monkeypatch.setattr(work.DistilledStage, "teacher_features", never)
    run(*GIVEN, "--reuse")
    assert weights(tmp_path / "runs") == before


def test_missing_kinds_of_features_are_added(run: Command, tmp_path: Path) -> None:
    files = tmp_path / "runs" / "reused" / "teacher"
    run(*GIVEN[:-2], "scfd", "--reuse")
    assert {file.stem.split("_")[1] for file in files.iterdir()} == {"levels"}
    run(*GIVEN, "--reuse")
    kinds = [file.stem.split("_")[1] for file in files.iterdir()]
    assert {kind: kinds.count(kind) for kind in kinds} == {"levels": 2, "fused": 2, "response": 2}


def test_a_file_never_serves_another_batch(run: Command, tmp_path: Path) -> None:
    run("--seeds", 0, *GIVEN[2:], "--reuse")
    run("--seeds", 1, *GIVEN[2:], "--reuse")
    digests = {file.stem.split("_")[0] for file in (tmp_path / "runs" / "reused" / "teacher").iterdir()}
    assert len(digests) == 4  # two steps of two seeds
    assert {folder.name for folder in (tmp_path / "runs" / "reused").iterdir()} == {"teacher", "samples_0", "samples_1"}
