"""A signal ends each command with the exit status that shells expect."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pair_folders import write_pairs

from mmdistill.cli.main import COMMANDS, main
from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import save_network
from mmdistill.reference.training.sampler import Sample, Sampler
from mmdistill.toolkit.interruption import TERMINATION_SIGNALS

TINY = [
    *("--width", "4", "--crop-size", "96", "--videos", "2", "--training.steps", "4", "--training.batch-size", "2"),
    *("--training.samples.train-frames", "1", "--training.samples.test-frames", "1", "--device", "cpu"),
]


def send_at(number: int, monkeypatch: pytest.MonkeyPatch, signal_number: int) -> None:
    """Send this process a signal when a sample is drawn, once."""
    drawn = Sampler.sample

    def sample(self: Sampler, asked: int) -> Sample:
        if asked == number:
            monkeypatch.undo()
            os.kill(os.getpid(), signal_number)
        return drawn(self, asked)

    monkeypatch.setattr(Sampler, "sample", sample)


@pytest.mark.parametrize("number", TERMINATION_SIGNALS)
def test_training_saves_exits_by_the_signal_and_resumes(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", "rgb", "--data", "synthetic", "--out", str(tmp_path / "run"), *TINY]
    send_at(4, monkeypatch, number)
    assert main(command) == 128 + number
    output, errors = capsys.readouterr()
    assert output == ""
    assert "the same command resumes it" in errors
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint.safetensors", "log.jsonl"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'run' / 'network.safetensors'}\n"
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 4


def test_training_without_labels_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = write_pairs(tmp_path / "pairs", 4, size=(160, 120))
    save_network(tmp_path / "rgb.safetensors", TrackerNetwork(single_settings("rgb", width=4, crop_size=96)))
    command = ["adapt-tir", "--setting", "B2", "--pairs", str(pairs), "--schedule", "short", "--steps", "4"]
    command += ["--weights", str(tmp_path / "rgb.safetensors"), "--out", str(tmp_path / "run"), "--device", "cpu"]
    send_at(6, monkeypatch, signal.SIGTERM)
    assert main(command) == 143
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "run" / "network.safetensors").exists()
    assert main(command) == 0
    assert (tmp_path / "run" / "network.safetensors").exists()


@pytest.mark.parametrize("number", TERMINATION_SIGNALS)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exits_by_the_signal(
    name: str, number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command() -> None:
        os.kill(os.getpid(), number)
        raise AssertionError("the signal was not heard")

    before = [signal.getsignal(each) for each in TERMINATION_SIGNALS]
    monkeypatch.setattr("mmdistill.cli.main.load_command", lambda _: command)
    assert main([name]) == 128 + number
    assert capsys.readouterr() == ("", "mmdistill: interrupted\n")
    assert [signal.getsignal(each) for each in TERMINATION_SIGNALS] == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_with_spawned_workers_ends_in_good_order(number: int, tmp_path: Path) -> None:
    spawn = "import multiprocessing, sys; multiprocessing.set_start_method('spawn'); "
    code = spawn + "from mmdistill.cli.main import main; sys.exit(main())"
    folder = tmp_path / "run"
    more = ["--training.steps", "100000", "--training.workers", "1", "--training.batch-size", "8"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "train", "rgb", "--data", "synthetic", "--out", str(folder), *TINY, *more],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not (folder / "log.jsonl").exists() and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert re.search(r"stopped after step \d+; the same command resumes it", errors)
    assert errors.endswith("\nmmdistill: interrupted\n")
    assert "terminate called" not in errors
    assert "Traceback" not in errors
