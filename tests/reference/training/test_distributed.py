"""Two processes with half the batch each get the results of one process with the whole batch."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_runs import LONG, PASSES, PROCESSES, STAGES, WHOLE, Disturbed, sampler, stage, start

from mmdistill.reference.models.weights import read_tensors
from mmdistill.reference.training.checkpoint import Progress
from mmdistill.reference.training.trainer import train
from mmdistill.toolkit.data_issues import DataError


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs of two processes, which are started once for all cases."""
    if os.name == "nt":
        pytest.skip("sends POSIX signals")
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this PyTorch is built without gloo")
    folder = tmp_path_factory.mktemp("runs")
    start(folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs of one process with the whole batch in one pass."""
    folder = tmp_path_factory.mktemp("whole")
    for name in STAGES:
        train(stage(name), sampler(), WHOLE, folder / name)
    return folder


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def assert_same_run(folder: Path, expected: Path) -> None:
    """Compare the values of each step, weights, and both moments of Adam."""
    assert [list(line) for line in log(folder)] == [list(line) for line in log(expected)]
    for line, other in zip(log(folder), log(expected), strict=True):
        assert line == pytest.approx(other, rel=1e-9, abs=1e-15)
    got, wanted = (read_tensors(path / "checkpoint.safetensors")[0] for path in (folder, expected))
    assert any(name.startswith("optimizer.") and value.abs().sum() > 0 for name, value in wanted.items())
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-11)


@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize("name", STAGES)
@pytest.mark.slow
def test_two_processes_learn_as_one(name: str, passes: int, runs: Path, whole: Path) -> None:
    assert_same_run(runs / f"{name} {passes}", whole / name)


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.slow
def test_one_process_learns_in_two_passes_as_in_one(name: str, whole: Path, tmp_path: Path) -> None:
    train(stage(name), sampler(), replace(WHOLE, grad_accumulation=2), tmp_path)
    assert_same_run(tmp_path, whole / name)


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"training.batch_size: expected a multiple of 3 \(processes: 1, passes of each"
    ):
        train(stage("alone"), sampler(), replace(WHOLE, grad_accumulation=3), tmp_path)


def test_shared_statistics_are_refused_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"training.sync_batch_norm: expected a GPU.*got cpu"):
        train(stage("alone"), sampler(), replace(WHOLE, sync_batch_norm=True), tmp_path)


def progress(runs: Path, name: str) -> Progress:
    """Return a run's progress, the same in both processes."""
    first, second = (torch.load(runs / f"{rank}.pt", weights_only=False)[name] for rank in range(PROCESSES))
    assert first == second
    assert isinstance(first, Progress)
    return first


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_step(runs: Path, tmp_path: Path) -> None:
    stopped = [torch.load(runs / f"{rank}.pt", weights_only=False)["stopped"] for rank in range(PROCESSES)]
    assert stopped == [signal.SIGTERM] * PROCESSES
    handed_on = read_tensors(runs / "handed on" / "checkpoint.safetensors")[1]
    assert json.loads(handed_on["progress"])["step"] == 3
    assert progress(runs, "again").step == 6
    train(stage("alone"), sampler(), LONG, tmp_path)
    assert_same_run(runs / "stopped", tmp_path)
    # One process can resume a run of two.
    assert train(stage("alone"), sampler(), LONG, runs / "handed on").step == 6
    assert_same_run(runs / "handed on", tmp_path)


@pytest.mark.slow
def test_troubles_of_one_process_are_dealt_with_by_all(runs: Path, tmp_path: Path) -> None:
    assert progress(runs, "disturbed").incidents == {"samples replaced": 1, "steps skipped": 1}
    alone = train(stage("alone"), Disturbed(unreadable=3, broken=7), LONG, tmp_path)  # type: ignore[arg-type]
    assert alone.incidents == progress(runs, "disturbed").incidents
    lines, others = log(runs / "disturbed"), log(tmp_path)
    assert [line.get("replaced") for line in lines] == [line.get("replaced") for line in others]
    assert [line["step"] for line in lines if "skipped" in line] == [3]
    assert lines[-1] == pytest.approx(others[-1], rel=1e-9)


@pytest.mark.slow
def test_what_one_process_refuses_ends_all(runs: Path) -> None:
    first, second = (torch.load(runs / f"{rank}.pt", weights_only=False)["refused"] for rank in range(PROCESSES))
    assert all("more samples had to be replaced than training.max_replaced, 0" in each for each in (first, second))
    assert second.endswith("lost.png: cannot read the image")


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    """The command line; only the first process writes files and prints."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "mmdistill", "train", "rgb", "--data=synthetic", "--videos=2", f"--out={tmp_path}", "--width=4"]
    command += ["--crop-size=96", "--device=cpu", "--training.steps=2", "--training.batch-size=4"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines() == [str(tmp_path / "network.safetensors")]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint.safetensors",
        "log.jsonl",
        "network.safetensors",
    ]
    assert [line["step"] for line in log(tmp_path)] == [0, 1]
