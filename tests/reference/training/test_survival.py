"""Problems during training: a killed process, a full disk, unreadable images, dying workers, losses not finite."""

import errno
import json
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import survival_runs
import torch
from survival_runs import EVERY, SETTINGS, Moment, sampler, stage
from training_helpers import needs_signals

from mmdistill.reference.models import weights
from mmdistill.reference.models.weights import read_tensors, write_tensors
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.training.checkpoint import Progress, StepLog, save_checkpoint
from mmdistill.reference.training.data_loader import MAX_WORKER_DEATHS
from mmdistill.reference.training.sampler import Sample, Sampler
from mmdistill.reference.training.settings import SampleSettings
from mmdistill.reference.training.train_step import build_optimizer
from mmdistill.reference.training.trainer import train
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.folder_sequence import read_sequences, write_sequence

SHORT = replace(SETTINGS, steps=6, checkpoint_every=1)
CHECKPOINT = "checkpoint.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without problems."""
    folder = tmp_path_factory.mktemp("whole")
    train(stage(), sampler(), SETTINGS, folder)
    return folder


def process(action: Callable[..., None], *arguments: object) -> multiprocessing.process.BaseProcess:
    """Start a process with all modules imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["survival_runs"])
    started = context.Process(target=action, args=arguments)
    started.start()
    return started


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def step_of(folder: Path) -> int:
    """Return the step of a run's checkpoint, which must be a complete file."""
    step = json.loads(read_tensors(folder / CHECKPOINT)[1]["progress"])["step"]
    assert isinstance(step, int)
    return step


def assert_same_to_the_bit(folder: Path, expected: Path) -> None:
    (got, metadata), (wanted, expected_metadata) = (read_tensors(path / CHECKPOINT) for path in (folder, expected))
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    assert metadata == expected_metadata
    assert (folder / "log.jsonl").read_bytes() == (expected / "log.jsonl").read_bytes()
    network, other = (read_tensors(path / "network.safetensors")[0] for path in (folder, expected))
    torch.testing.assert_close(network, other, rtol=0, atol=0)
    assert {path.name for path in folder.iterdir()} == {CHECKPOINT, "log.jsonl", "network.safetensors"}


@needs_signals
@pytest.mark.slow
def test_killed_at_any_moment_it_loses_what_the_checkpoint_lacks_and_nothing_else(whole: Path, tmp_path: Path) -> None:
    chance = np.random.default_rng()
    lines = tmp_path / "log.jsonl"
    for _ in range(3):
        running = process(survival_runs.run, tmp_path)
        # Kill it up to 0.2 seconds after its first new line.
        known = lines.read_bytes() if lines.exists() else b""
        while running.is_alive() and (lines.read_bytes() if lines.exists() else b"") == known:
            time.sleep(0.005)
        running.join(chance.uniform(0, 0.2))
        running.kill()
        running.join()
        if (tmp_path / CHECKPOINT).exists():
            assert lines.read_bytes().count(b"\n") - EVERY <= step_of(tmp_path)
    train(stage(), sampler(), SETTINGS, tmp_path)
    assert_same_to_the_bit(tmp_path, whole)


@needs_signals
@pytest.mark.slow
@pytest.mark.parametrize("moment", Moment.__args__)  # type: ignore[attr-defined]
def test_killed_while_it_writes_a_checkpoint(moment: Moment, whole: Path, tmp_path: Path) -> None:
    running = process(survival_runs.run_killed_while_writing, tmp_path, 2, moment)
    running.join()
    assert running.exitcode == -signal.SIGKILL
    assert step_of(tmp_path) == (3 * EVERY if moment == "moved" else 2 * EVERY)
    assert len(list(tmp_path.glob(".checkpoint.*"))) == (moment != "moved")
    train(stage(), sampler(), SETTINGS, tmp_path)
    assert_same_to_the_bit(tmp_path, whole)


class FullDisk:
    """A disk that is full when the files of these numbers, from 0, are written."""

    def __init__(self, *full: int) -> None:
        self.full, self.written = full, 0
        self.sync = os.fsync

    def __call__(self, file: int) -> None:
        self.written += 1
        if self.written - 1 in self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.sync(file)


@pytest.mark.slow
def test_a_full_disk_costs_a_checkpoint_and_no_step(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(weights.os, "fsync", FullDisk(1, 2))  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING):
        done = train(stage(), sampler(), SETTINGS, tmp_path)
    assert done.incidents == {"checkpoints not written": 2}
    assert "step 6: can't write the checkpoint ([Errno 28] No space left on device)" in caplog.text
    assert "training: checkpoints not written: 2" in caplog.text
    (got, _), (wanted, _) = (read_tensors(path / CHECKPOINT) for path in (tmp_path, whole))
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)


@pytest.mark.slow
def test_a_disk_that_stays_full_ends_the_run_and_leaves_the_last_good_checkpoint(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(weights.os, "fsync", FullDisk(*range(2, 100)))  # type: ignore[attr-defined]
        with pytest.raises(DataError, match=r"checkpoint.safetensors: can't write it \(\[Errno 28\] No space left"):
            train(stage(), sampler(), SETTINGS, tmp_path)
    assert step_of(tmp_path) == 2 * EVERY
    assert len(log(tmp_path)) == 5 * EVERY
    train(stage(), sampler(), SETTINGS, tmp_path)
    assert_same_to_the_bit(tmp_path, whole)


def test_a_log_without_room_waits_and_loses_no_line(tmp_path: Path) -> None:
    class Narrow:
        def __init__(self) -> None:
            self.room, self.content = 4, b""

        def write(self, data: bytes) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = data[: self.room]
            self.content, self.room = self.content + written, self.room - len(written)
            return len(written)

        def close(self) -> None:
            pass

    path = tmp_path / "log.jsonl"
    path.write_text("0\n1\n2\n")
    log = StepLog(path, 2)
    assert path.read_text() == "0\n1\n"
    narrow = Narrow()
    log._file.close()
    log._file = narrow  # type: ignore[assignment]
    log.add("first")
    log.add("second")
    with pytest.raises(OSError, match="No space"):
        log.flush()
    narrow.room = 100
    log.add("third")
    log.close()
    assert narrow.content == b"first\nsecond\nthird\n"


def on_disk(folder: Path) -> Sampler:
    video = SyntheticSettings(size=(160, 120), target_size=(20.0, 30.0), length=6)
    for sequence in synthetic_sequences(2, seed=0, settings=video):
        write_sequence(sequence, folder / sequence.name)
    return Sampler(read_sequences(folder), 96, 5.0, SampleSettings(train_frames=1, test_frames=1))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.slow
def test_an_image_that_cannot_be_read_is_replaced_and_counted(
    workers: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = on_disk(tmp_path / "clips")
    cut = sorted((tmp_path / "clips").rglob("*.png"))[1]
    cut.write_bytes(cut.read_bytes()[:-100])
    broken = []
    for number in range(24):
        try:
            samples.sample(number)
        except DataError:
            broken.append(number)
    assert 0 < len(broken) < 12
    settings = replace(SHORT, steps=12, workers=workers)
    done = train(stage(), samples, settings, tmp_path / "run")
    lines = log(tmp_path / "run")
    assert {line["step"] for line in lines if "replaced" in line} == {number // 2 for number in broken}
    # A replacement may be unreadable as well.
    assert done.incidents == {"samples replaced": sum(line.get("replaced", 0) for line in lines)}
    assert done.incidents["samples replaced"] >= len(broken)
    assert f"a sample is replaced by another: {cut}: the image is cut off" in caplog.text
    limited = replace(settings, max_replaced=done.incidents["samples replaced"] - 1)
    with pytest.raises(DataError, match=r"more samples had to be replaced than training.max_replaced"):
        train(stage(), samples, limited, tmp_path / "limited")


@pytest.mark.parametrize("workers", [0, 1])
def test_where_nothing_can_be_read_training_does_not_begin(workers: int, tmp_path: Path) -> None:
    samples = on_disk(tmp_path / "clips")
    for path in (tmp_path / "clips").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"^training data: can't read 10 samples in a row, .*: expected an image, the"):
        train(stage(), samples, replace(SHORT, workers=workers), tmp_path / "run")


class Deadly:
    """A sampler that kills its process at a sample, a number of times."""

    def __init__(self, folder: Path, number: int, times: int) -> None:
        self.folder, self.number, self.times, self.sampler = folder, number, times, sampler()
        folder.mkdir()

    def sample(self, number: int) -> Sample:
        deaths = len(list(self.folder.iterdir()))
        if number == self.number and deaths < self.times:
            (self.folder / str(deaths)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.sampler.sample(number)


@needs_signals
def test_a_worker_that_dies_is_started_again_and_no_sample_is_lost(tmp_path: Path) -> None:
    settings = replace(SHORT, workers=2)
    train(stage(), sampler(), settings, tmp_path / "whole")
    done = train(stage(), Deadly(tmp_path / "deaths", 6, 1), settings, tmp_path / "run")  # type: ignore[arg-type]
    assert done.incidents == {"workers restarted": 1}
    got, wanted = (read_tensors(tmp_path / name / CHECKPOINT)[0] for name in ("run", "whole"))
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    assert (tmp_path / "run" / "log.jsonl").read_text() == (tmp_path / "whole" / "log.jsonl").read_text()


@needs_signals
@pytest.mark.slow
def test_workers_that_die_again_and_again_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"training.workers: a worker died 3 times in a row .*use fewer training.workers"
    ):
        train(stage(), Deadly(tmp_path / "deaths", 4, 100), replace(SHORT, workers=1), tmp_path / "run")  # type: ignore[arg-type]
    # A batch in preparation is lost with its worker and prepared again between two deaths.
    assert len(list((tmp_path / "deaths").iterdir())) >= MAX_WORKER_DEATHS
    # The message's advice works.
    assert train(stage(), sampler(), SHORT, tmp_path / "run").step == 6


class Broken:
    """A sampler whose proposals are NaN from sample ``first`` to ``last``."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.sampler = first, last, sampler()

    def sample(self, number: int) -> Sample:
        sample = self.sampler.sample(number)
        if self.first <= number <= self.last:
            return sample._replace(proposals=np.full_like(sample.proposals, np.nan))
        return sample


def test_a_batch_of_nan_moves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(stage(), sampler(), replace(SHORT, steps=2), tmp_path / "two")
    done = train(stage(), Broken(4, 5), replace(SHORT, steps=3), tmp_path / "three")  # type: ignore[arg-type]
    assert done.incidents == {"steps skipped": 1}
    got, wanted = (read_tensors(tmp_path / name / CHECKPOINT)[0] for name in ("three", "two"))
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)  # weights, batch-norm statistics, Adam's moments
    assert log(tmp_path / "three")[2] == {"step": 2, "skipped": "the loss isn't finite in box, total"}
    assert "step 2 is skipped: the loss isn't finite in box, total" in caplog.text
    # The run continues normally.
    assert train(stage(), Broken(4, 5), SHORT, tmp_path / "six").step == 6  # type: ignore[arg-type]


def test_a_gradient_that_is_not_finite_moves_nothing_either(tmp_path: Path) -> None:
    train(stage(), sampler(), replace(SHORT, steps=2), tmp_path / "two")
    broken, calls = stage(), 0

    def overflow(gradient: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return gradient * float("inf") if calls == 3 else gradient

    next(broken.parameters()).register_hook(overflow)
    done = train(broken, sampler(), replace(SHORT, steps=3), tmp_path / "three")
    assert done.incidents == {"steps skipped": 1}
    assert log(tmp_path / "three")[2] == {"step": 2, "skipped": "the gradient isn't finite"}
    got, wanted = (read_tensors(tmp_path / name / CHECKPOINT)[0] for name in ("three", "two"))
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)


def test_too_many_batches_of_nan_end_the_run_with_the_checkpoint_of_before(tmp_path: Path) -> None:
    limited = replace(SHORT, max_skipped=3)
    with pytest.raises(DataError, match=r"^step 4: the loss isn't finite in box, total, 3 steps in a row"):
        train(stage(), Broken(4, 100), limited, tmp_path)  # type: ignore[arg-type]
    assert step_of(tmp_path) == 2
    # The same run with valid data resumes from the checkpoint.
    assert train(stage(), sampler(), limited, tmp_path).step == 6


def test_a_first_step_of_nan_is_skipped_too(tmp_path: Path) -> None:
    done = train(stage(), Broken(0, 1), SHORT, tmp_path)  # type: ignore[arg-type]
    assert done.incidents == {"steps skipped": 1}
    assert set(done.first) == set(done.last) == {"box", "last", "first", "middle", "total"}


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    broken = stage()
    path = tmp_path / CHECKPOINT
    optimizer = build_optimizer(broken, SETTINGS)
    save_checkpoint(path, broken, optimizer, Progress(1, {}, []), "{}")
    before = path.read_bytes()
    with torch.no_grad():
        next(broken.parameters())[0] = float("inf")
    with pytest.raises(
        DataError, match=r"step 1: stage.network.* became infinite or NaN; the previous checkpoint stays"
    ):
        save_checkpoint(path, broken, optimizer, Progress(2, {}, []), "{}")
    assert path.read_bytes() == before


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / CHECKPOINT, {"one": torch.ones(1)}, {"format": "mmdistill-training-3"})
    with pytest.raises(
        DataError, match=r"expected .* 'mmdistill-training-4', got 'mmdistill-training-3'; a run can't resume"
    ):
        train(stage(), sampler(), SHORT, tmp_path)


def test_training_leaves_the_callers_random_state_alone(tmp_path: Path) -> None:
    made = stage()
    before = torch.get_rng_state()
    train(made, sampler(), replace(SHORT, steps=1), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
