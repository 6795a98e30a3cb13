"""The training loop: resuming, interruptions, refused settings, and the time spent waiting for data."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_helpers import load_batches, needs_signals

from mmdistill import NotFiniteError
from mmdistill.reference.models.config import student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network, read_tensors
from mmdistill.reference.training.checkpoint import Progress
from mmdistill.reference.training.sampler import Sample, Sampler
from mmdistill.reference.training.settings import (
    IDENTITY_FIELDS,
    DistillationSettings,
    PartLearningRates,
    SampleSettings,
    TrainingSettings,
)
from mmdistill.reference.training.stages import DistilledStage, SupervisedStage
from mmdistill.reference.training.train_step import freeze_batch_norm
from mmdistill.reference.training.trainer import DataWait, train
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.interruption import TERMINATION_SIGNALS, Interruption
from mmdistill.toolkit.ranges import unchecked

SETTINGS = TrainingSettings(steps=6, batch_size=2, checkpoint_every=2, decay_every=2)


class KilledError(Exception):
    """Stands for the death of a process."""


class Until:
    """A sampler that calls ``action`` when sample ``number`` is drawn."""

    def __init__(self, sampler: Sampler, number: int, action: object) -> None:
        self.sampler, self.number, self.action = sampler, number, action

    def sample(self, number: int) -> Sample:
        if number == self.number:
            self.action()  # type: ignore[operator]
        return self.sampler.sample(number)


def die() -> None:
    raise KilledError


def fresh() -> TrackerNetwork:
    torch.manual_seed(3)
    return TrackerNetwork(student_settings(width=4, crop_size=96))


def stage(teacher: TrackerNetwork | None) -> SupervisedStage | DistilledStage:
    torch.manual_seed(4)
    return SupervisedStage(fresh()) if teacher is None else DistilledStage(fresh(), teacher)


@pytest.mark.parametrize("distilled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("optimizer", ["adam", pytest.param("adamw", marks=pytest.mark.slow)])
def test_a_run_that_died_ends_as_one_that_never_stopped(
    distilled: bool, optimizer: str, sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path
) -> None:
    guide = teacher if distilled else None
    settings = TrainingSettings(steps=6, batch_size=2, checkpoint_every=2, decay_every=2, optimizer=optimizer)  # type: ignore[arg-type]
    train(stage(guide), sampler, settings, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(stage(guide), Until(sampler, 7, die), settings, tmp_path / "died")  # type: ignore[arg-type]
    progress = train(stage(guide), sampler, settings, tmp_path / "died")
    assert progress.step == 6
    whole, resumed = (load_network(tmp_path / name / "network.safetensors") for name in ("whole", "died"))
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "died")]
    assert logs[0] == logs[1]
    lines = [json.loads(line) for line in logs[0].splitlines()]
    assert [line["step"] for line in lines] == list(range(6))
    assert all(0 < line["entropy level 4"] <= 1 for line in lines)


@needs_signals
@pytest.mark.parametrize("number", TERMINATION_SIGNALS)
def test_an_interruption_saves_and_the_same_call_goes_on(number: int, sampler: Sampler, tmp_path: Path) -> None:
    interrupting = Until(sampler, 6, lambda: os.kill(os.getpid(), number))
    with pytest.raises(Interruption) as stopped:
        train(stage(None), interrupting, SETTINGS, tmp_path)  # type: ignore[arg-type]
    assert stopped.value.number == number
    assert 3 <= len((tmp_path / "log.jsonl").read_text().splitlines()) <= 4
    assert not (tmp_path / "network.safetensors").exists()
    assert train(stage(None), sampler, SETTINGS, tmp_path).step == 6
    assert (tmp_path / "network.safetensors").exists()


@needs_signals
def test_an_interruption_in_the_last_step_finds_the_run_finished(sampler: Sampler, tmp_path: Path) -> None:
    interrupting = Until(sampler, 11, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert train(stage(None), interrupting, SETTINGS, tmp_path).step == 6  # type: ignore[arg-type]
    assert (tmp_path / "network.safetensors").exists()


def test_a_finished_run_is_not_run_again(sampler: Sampler, tmp_path: Path) -> None:
    done = train(stage(None), sampler, SETTINGS, tmp_path)
    again = train(stage(None), Until(sampler, -1, die), SETTINGS, tmp_path)  # type: ignore[arg-type]
    assert isinstance(again, Progress)
    assert again == done
    assert set(done.first) == set(done.last) == {"box", "last", "first", "middle", "total"}


def test_logged_gradients_at_the_trunk_are_those_of_the_weighted_terms(
    sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, steps=3)
    train(stage(teacher), sampler, settings, tmp_path / "plain")
    train(stage(teacher), sampler, replace(settings, log_gradient_shares=2), tmp_path / "logged")
    plain, logged = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("plain", "logged")
    )
    gradients = [{name: value for name, value in step.items() if name.startswith("gradient ")} for step in logged]
    assert [bool(each) for each in gradients] == [True, False, True]
    assert [{name: value for name, value in step.items() if name in plain[0]} for step in logged] == plain
    weights = [read_tensors(tmp_path / name / "network.safetensors")[0] for name in ("plain", "logged")]
    assert all(torch.equal(weights[1][name], value) for name, value in weights[0].items())

    norms = {name.removeprefix("gradient norm "): gradients[0][name] for name in gradients[0] if " norm " in name}
    assert {"box", "last", "specific", "common", "fusion", "response"} <= set(norms)
    for term, norm in norms.items():
        assert gradients[0][f"gradient share {term}"] == pytest.approx(norm / sum(norms.values()), rel=1e-5)
    first = stage(teacher)
    first.prepare(settings)
    (batch,) = load_batches(sampler, settings.batch_size)
    terms = first(batch)
    for term in ("last", "specific"):
        first.zero_grad()
        (terms.weights[term] * terms[term]).backward(retain_graph=True)
        alone = [each.grad.flatten() for each in first.network.trunks.parameters() if each.grad is not None]
        assert norms[term] == pytest.approx(torch.cat(alone).norm().item(), rel=1e-4)


def test_gradients_at_a_frozen_trunk_are_not_logged(sampler: Sampler, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"training.log_gradient_shares: expected a trunk that is trained"):
        train(stage(None), sampler, replace(SETTINGS, log_gradient_shares=1, freeze_trunk=True), tmp_path)


def test_a_damaged_line_of_the_log_stops_no_run(sampler: Sampler, tmp_path: Path) -> None:
    train(stage(None), sampler, replace(SETTINGS, steps=2), tmp_path)
    log = tmp_path / "log.jsonl"
    lines = log.read_bytes().splitlines()
    log.write_bytes(lines[0] + b"\n" + lines[1][:9] + b"\xff" + lines[1][10:] + b"\n")
    train(stage(None), sampler, replace(SETTINGS, steps=2), tmp_path)
    assert log.read_bytes() == lines[0] + b"\n" + lines[1][:9] + rb"\xff" + lines[1][10:] + b"\n"


def test_other_settings_are_refused_by_name(sampler: Sampler, tmp_path: Path) -> None:
    train(stage(None), sampler, SETTINGS, tmp_path)
    other = TrainingSettings(steps=6, batch_size=2, checkpoint_every=2, decay_every=2, seed=5)
    with pytest.raises(DataError, match=r"training.seed was 0, now 5"):
        train(stage(None), sampler, other, tmp_path)


def test_other_losses_and_data_are_refused_too(sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path) -> None:
    train(stage(teacher), sampler, SETTINGS, tmp_path, data="pairs")
    with pytest.raises(DataError, match=r"\(data was pairs, now video\)"):
        train(stage(teacher), sampler, SETTINGS, tmp_path, data="video")
    other = DistilledStage(fresh(), teacher, distillation=DistillationSettings(alpha=0.1))
    with pytest.raises(DataError, match=r"\(distillation.alpha was 0.001, now 0.1\)"):
        train(other, sampler, SETTINGS, tmp_path, data="pairs")
    with pytest.raises(DataError, match=r"distillation.alpha was 0.001, now None"):
        train(stage(None), sampler, SETTINGS, tmp_path, data="pairs")


def test_a_truncated_checkpoint_is_named(sampler: Sampler, tmp_path: Path) -> None:
    train(stage(None), sampler, SETTINGS, tmp_path)
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"checkpoint.safetensors: not a complete safetensors file"):
        train(stage(None), sampler, SETTINGS, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(sampler: Sampler, tmp_path: Path) -> None:
    with unchecked():  # no such rates are allowed
        rates = PartLearningRates(trunk=1e30, fusion=1e30)
        settings = TrainingSettings(steps=6, batch_size=2, checkpoint_every=1, learning_rates=rates)
    with pytest.raises((DataError, NotFiniteError), match=r"step \d: the loss isn't finite in"):
        train(stage(None), sampler, settings, tmp_path)
    assert (tmp_path / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("option", ["freeze_bn", "freeze_trunk"])
def test_what_is_frozen_does_not_move_by_a_bit(option: str, sampler: Sampler, tmp_path: Path) -> None:
    before = fresh().state_dict()
    settings = TrainingSettings(steps=2, batch_size=2, **{option: True})  # type: ignore[arg-type]
    train(SupervisedStage(fresh()), sampler, settings, tmp_path)
    after = load_network(tmp_path / "network.safetensors").state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    still = {name for name in before if name.startswith("trunks") and ("running" in name or option == "freeze_trunk")}
    assert not moved & still
    assert any(name.startswith("iou_net") for name in moved)
    assert any(name.startswith("trunks") for name in moved) == (option == "freeze_bn")


def test_statistics_stay_from_their_step_on_and_parameters_go_on_learning(sampler: Sampler, tmp_path: Path) -> None:
    def run(steps: int) -> dict[str, torch.Tensor]:
        # The same steps, stopped after some: the rates don't know of the run's length.
        folder = tmp_path / str(steps)
        settings = TrainingSettings(steps=steps, batch_size=2, freeze_bn_after=2)
        train(SupervisedStage(fresh()), sampler, settings, folder)
        return load_network(folder / "network.safetensors").state_dict()

    one, two, four = run(1), run(2), run(4)
    statistics = {name for name in one if "running" in name}
    assert any(not torch.equal(one[name], two[name]) for name in statistics)
    assert all(torch.equal(two[name], four[name]) for name in statistics)
    assert not torch.equal(two["iou_net.predictor.weight"], four["iou_net.predictor.weight"])


def test_with_frozen_batch_norm_training_computes_what_tracking_computes(sampler: Sampler) -> None:
    network = fresh().train()
    batch = next(load_batches(sampler, 2))
    inputs = (batch.train, batch.train_boxes, batch.test, batch.proposals)
    with torch.no_grad():
        by_batch = network(*inputs).iou
        freeze_batch_norm(network)
        kept, tracking = network(*inputs).iou, network.eval()(*inputs).iou
    assert torch.equal(kept, tracking)
    assert not torch.allclose(by_batch, tracking, atol=1e-2)


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_progress_bar_shows_the_share_of_time_spent_waiting_for_data(
    sampler: Sampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainingSettings(steps=3, batch_size=2)
    for stream, shown in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        slow = Until(sampler, 4, lambda: time.sleep(1))
        train(stage(None), slow, settings, tmp_path / str(shown), title="student")  # type: ignore[arg-type]
        assert ("data_wait=" in stream.getvalue()) == shown
        assert ("student: waited for data" in stream.getvalue()) == shown
    assert "training.workers" in stream.getvalue().splitlines()[-1]


def test_every_setting_is_the_runs_identity_or_is_not() -> None:
    names = {each.name for each in fields(TrainingSettings)}
    assert names - IDENTITY_FIELDS == {
        "checkpoint_every",
        "max_skipped",
        "max_replaced",
        "log_gradient_shares",
        "compile",
        "workers",
    }
    assert set(TrainingSettings().identity()) == IDENTITY_FIELDS


@pytest.mark.slow
def test_a_run_goes_on_with_other_workers_and_limits_to_the_same_bits(sampler: Sampler, tmp_path: Path) -> None:
    train(stage(None), sampler, SETTINGS, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(stage(None), Until(sampler, 7, die), SETTINGS, tmp_path / "died")  # type: ignore[arg-type]
    other = replace(SETTINGS, checkpoint_every=3, workers=1, max_skipped=2, max_replaced=0)
    assert train(stage(None), sampler, other, tmp_path / "died").step == 6
    whole, resumed = (load_network(tmp_path / name / "network.safetensors") for name in ("whole", "died"))
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "change", [{"steps": 7}, {"seed": 1}, {"grad_accumulation": 2}, {"samples": SampleSettings(gap=2)}]
)
def test_a_run_does_not_go_on_with_what_changes_it(change: dict[str, Any], sampler: Sampler, tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=1, batch_size=4)  # two in each pass of two
    train(stage(None), sampler, settings, tmp_path)
    with pytest.raises(DataError, match=r"a run with other settings \(training\."):
        train(stage(None), sampler, replace(settings, **change), tmp_path)


@pytest.mark.parametrize(
    "change", [{"batch_size": 1}, {"batch_size": 4, "grad_accumulation": 4}, {"freeze_bn_after": 3}]
)
def test_a_batch_too_small_for_batch_norm_is_refused_with_the_remedy(
    change: dict[str, Any], sampler: Sampler, tmp_path: Path
) -> None:
    one = replace(SETTINGS, **{"batch_size": 1, "steps": 1, **change})
    with pytest.raises(
        DataError,
        match=r"^training\.batch_size: expected at least 2 samples per pass for batch norm, got 1 .*freeze-bn-after 0",
    ):
        train(stage(None), sampler, one, tmp_path)
    assert list(tmp_path.iterdir()) == []
    # The message's advice works.
    assert train(stage(None), sampler, replace(one, freeze_bn_after=0), tmp_path).step == 1


class BrokenAt:
    """A sampler whose sample ``number`` has NaN overlaps."""

    def __init__(self, sampler: Sampler, number: int) -> None:
        self.sampler, self.number = sampler, number

    def sample(self, number: int) -> Sample:
        sample = self.sampler.sample(number)
        return sample._replace(overlaps=sample.overlaps * float("nan")) if number == self.number else sample


def test_a_second_pass_of_nan_takes_back_what_the_first_moved(sampler: Sampler, tmp_path: Path) -> None:
    passes = replace(SETTINGS, batch_size=4, grad_accumulation=2)
    train(stage(None), sampler, replace(passes, steps=1), tmp_path / "one")
    # Of step 1's samples, 4 to 7, the second pass has 5 and 7.
    done = train(stage(None), BrokenAt(sampler, 5), replace(passes, steps=2), tmp_path / "two")  # type: ignore[arg-type]
    assert done.incidents == {"steps skipped": 1}
    got, wanted = (read_tensors(tmp_path / name / "checkpoint.safetensors")[0] for name in ("two", "one"))
    assert any("running_mean" in name for name in got)
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)


@needs_signals
def test_a_second_signal_while_a_checkpoint_is_written_leaves_the_one_before(
    sampler: Sampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, written = os.fsync, 0

    def impatient(file: int) -> None:
        nonlocal written
        written += 1
        if written == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        sync(file)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", impatient)
        with pytest.raises(Interruption) as raised:
            train(stage(None), sampler, SETTINGS, tmp_path)
    assert raised.value.number == signal.SIGTERM
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.safetensors", "log.jsonl"]
    progress = json.loads(read_tensors(tmp_path / "checkpoint.safetensors")[1]["progress"])
    assert progress["step"] == SETTINGS.checkpoint_every
    assert train(stage(None), sampler, SETTINGS, tmp_path).step == 6


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def measured(waits: list[float], steps: float) -> DataWait:
    """Return the measurement of waits with steps of equal length in between."""
    clock = Clock()
    data_wait = DataWait(clock)
    for wait in waits:
        with data_wait.wait():
            clock.now += wait
        clock.now += steps
    return data_wait


def test_the_share_is_of_the_time_after_the_first_batch() -> None:
    assert DataWait().share == 0
    assert measured([60.0], 3.0).share == 0
    assert measured([60.0, 1.0, 0.5], 3.0).share == pytest.approx(1.5 / (3 * 3.0 + 1.5))


def test_a_wait_that_ends_in_an_error_is_no_wait_for_data() -> None:
    clock = Clock()
    data_wait = DataWait(clock)
    with pytest.raises(OSError, match="gone"), data_wait.wait():
        raise OSError("gone")
    clock.now += 1
    assert data_wait.share == 0


def test_the_summary_advises_workers() -> None:
    assert measured([9.0, 0.03, 0.03], 1.0).summary(0) == "waited for data 2 % of the time"
    long = measured([9.0, 1.0], 1.0)
    assert long.summary(4) == "waited for data 33 % of the time; increase training.workers, if there are idle cores"
    assert long.summary(0) == (
        "waited for data 33 % of the time; set training.workers to prepare data in other processes, if there are idle "
        "cores"
    )
