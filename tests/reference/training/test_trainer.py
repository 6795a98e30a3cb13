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

from mmdistill import NotFiniteError
from mmdistill.reference.models.config import student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network, read_tensors
from mmdistill.reference.training.checkpoint import Progress
from mmdistill.reference.training.data_loader import batches
from mmdistill.reference.training.optimizer import keep_statistics
from mmdistill.reference.training.sampler import Sample, Sampler, SampleSettings
from mmdistill.reference.training.settings import IDENTITY_FIELDS, LearningRates, TrainingSettings
from mmdistill.reference.training.stages import AloneStage, DistillationSettings, DistilledStage
from mmdistill.reference.training.trainer import train
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.ranges import unchecked
from mmdistill.toolkit.run_control import SIGNALS, Interruption

SETTINGS = TrainingSettings(steps=6, sequences=2, checkpoint_every=2, decay_every=2)


class KilledError(Exception):
    """Stands for a process that dies."""


class Until:
    """A sampler that does something when sample ``number`` is asked for."""

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


def stage(teacher: TrackerNetwork | None) -> AloneStage | DistilledStage:
    torch.manual_seed(4)
    return AloneStage(fresh()) if teacher is None else DistilledStage(fresh(), teacher)


@pytest.mark.parametrize("distilled", [False, True])
@pytest.mark.parametrize("algorithm", ["adam", "adamw"])
def test_a_run_that_died_ends_as_one_that_never_stopped(
    distilled: bool, algorithm: str, sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path
) -> None:
    guide = teacher if distilled else None
    settings = TrainingSettings(steps=6, sequences=2, checkpoint_every=2, decay_every=2, algorithm=algorithm)  # type: ignore[arg-type]
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


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interruption_saves_and_the_same_call_goes_on(number: int, sampler: Sampler, tmp_path: Path) -> None:
    interrupting = Until(sampler, 6, lambda: os.kill(os.getpid(), number))
    with pytest.raises(Interruption) as stopped:
        train(stage(None), interrupting, SETTINGS, tmp_path)  # type: ignore[arg-type]
    assert stopped.value.number == number
    assert 3 <= len((tmp_path / "log.jsonl").read_text().splitlines()) <= 4
    assert not (tmp_path / "network.safetensors").exists()
    assert train(stage(None), sampler, SETTINGS, tmp_path).step == 6
    assert (tmp_path / "network.safetensors").exists()


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


def test_a_damaged_line_of_the_log_stops_no_run(sampler: Sampler, tmp_path: Path) -> None:
    train(stage(None), sampler, replace(SETTINGS, steps=2), tmp_path)
    log = tmp_path / "log.jsonl"
    lines = log.read_bytes().splitlines()
    log.write_bytes(lines[0] + b"\n" + lines[1][:9] + b"\xff" + lines[1][10:] + b"\n")
    train(stage(None), sampler, replace(SETTINGS, steps=2), tmp_path)
    assert log.read_bytes() == lines[0] + b"\n" + lines[1][:9] + rb"\xff" + lines[1][10:] + b"\n"


def test_other_settings_are_refused_by_name(sampler: Sampler, tmp_path: Path) -> None:
    train(stage(None), sampler, SETTINGS, tmp_path)
    other = TrainingSettings(steps=6, sequences=2, checkpoint_every=2, decay_every=2, seed=5)
    with pytest.raises(DataError, match=r"training.seed was 0, now 5"):
        train(stage(None), sampler, other, tmp_path)


def test_other_losses_and_data_are_refused_too(sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path) -> None:
    train(stage(teacher), sampler, SETTINGS, tmp_path, data="pairs")
    with pytest.raises(DataError, match=r"\(data was pairs, now video\)"):
        train(stage(teacher), sampler, SETTINGS, tmp_path, data="video")
    other = DistilledStage(fresh(), teacher, distillation=DistillationSettings(alpha=0.1))
    with pytest.raises(DataError, match=r"\(distillation.alpha was 100.0, now 0.1\)"):
        train(other, sampler, SETTINGS, tmp_path, data="pairs")
    with pytest.raises(DataError, match=r"distillation.alpha was 100.0, now None"):
        train(stage(None), sampler, SETTINGS, tmp_path, data="pairs")


def test_a_truncated_checkpoint_is_named(sampler: Sampler, tmp_path: Path) -> None:
    train(stage(None), sampler, SETTINGS, tmp_path)
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"checkpoint.safetensors: not a complete safetensors file"):
        train(stage(None), sampler, SETTINGS, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(sampler: Sampler, tmp_path: Path) -> None:
    with unchecked():  # no such rates are allowed
        rates = LearningRates(trunk=1e30, fusion=1e30)
        settings = TrainingSettings(steps=6, sequences=2, checkpoint_every=1, learning_rates=rates)
    with pytest.raises((DataError, NotFiniteError), match=r"step \d: the loss isn't finite in"):
        train(stage(None), sampler, settings, tmp_path)
    assert (tmp_path / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("option", ["frozen_statistics", "frozen_trunk"])
def test_what_is_frozen_does_not_move_by_a_bit(option: str, sampler: Sampler, tmp_path: Path) -> None:
    before = fresh().state_dict()
    settings = TrainingSettings(steps=2, sequences=2, **{option: True})  # type: ignore[arg-type]
    train(AloneStage(fresh()), sampler, settings, tmp_path)
    after = load_network(tmp_path / "network.safetensors").state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    still = {name for name in before if name.startswith("trunks") and ("running" in name or option == "frozen_trunk")}
    assert not moved & still
    assert any(name.startswith("iou_net") for name in moved)
    assert any(name.startswith("trunks") for name in moved) == (option == "frozen_statistics")


def test_statistics_stay_from_their_step_on_and_parameters_go_on_learning(sampler: Sampler, tmp_path: Path) -> None:
    def run(steps: int) -> dict[str, torch.Tensor]:
        # The same steps, stopped after some: the rates don't know of the run's length.
        folder = tmp_path / str(steps)
        settings = TrainingSettings(steps=steps, sequences=2, statistics_until=2)
        train(AloneStage(fresh()), sampler, settings, folder)
        return load_network(folder / "network.safetensors").state_dict()

    one, two, four = run(1), run(2), run(4)
    statistics = {name for name in one if "running" in name}
    assert any(not torch.equal(one[name], two[name]) for name in statistics)
    assert all(torch.equal(two[name], four[name]) for name in statistics)
    assert not torch.equal(two["iou_net.predictor.weight"], four["iou_net.predictor.weight"])


def test_with_kept_statistics_training_computes_what_tracking_will(sampler: Sampler) -> None:
    network = fresh().train()
    batch = next(batches(sampler, 2, start=0, stop=1))
    inputs = (batch.train, batch.train_boxes, batch.test, batch.proposals)
    with torch.no_grad():
        by_batch = network(*inputs).iou
        keep_statistics(network)
        kept, tracking = network(*inputs).iou, network.eval()(*inputs).iou
    assert torch.equal(kept, tracking)
    assert not torch.allclose(by_batch, tracking, atol=1e-2)


class Terminal(io.StringIO):
    """A standard error that somebody watches."""

    def isatty(self) -> bool:
        return True


def test_who_watches_is_told_how_long_steps_wait_for_data(
    sampler: Sampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainingSettings(steps=3, sequences=2)
    for stream, shown in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        slow = Until(sampler, 4, lambda: time.sleep(1))
        train(stage(None), slow, settings, tmp_path / str(shown), title="student")  # type: ignore[arg-type]
        assert ("waited=" in stream.getvalue()) == shown
        assert ("student: waited for data" in stream.getvalue()) == shown
    assert "training.workers" in stream.getvalue().splitlines()[-1]


def test_every_setting_is_the_runs_identity_or_is_not() -> None:
    names = {each.name for each in fields(TrainingSettings)}
    assert names - IDENTITY_FIELDS == {"checkpoint_every", "skipped_limit", "replaced_limit", "workers"}
    assert set(TrainingSettings().identity()) == IDENTITY_FIELDS


def test_a_run_goes_on_with_other_workers_and_limits_to_the_same_bits(sampler: Sampler, tmp_path: Path) -> None:
    train(stage(None), sampler, SETTINGS, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(stage(None), Until(sampler, 7, die), SETTINGS, tmp_path / "died")  # type: ignore[arg-type]
    other = replace(SETTINGS, checkpoint_every=3, workers=1, skipped_limit=2, replaced_limit=0)
    assert train(stage(None), sampler, other, tmp_path / "died").step == 6
    whole, resumed = (load_network(tmp_path / name / "network.safetensors") for name in ("whole", "died"))
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("change", [{"steps": 7}, {"seed": 1}, {"accumulate": 2}, {"samples": SampleSettings(gap=2)}])
def test_a_run_does_not_go_on_with_what_changes_it(change: dict[str, Any], sampler: Sampler, tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=1, sequences=4)  # two in each pass of two
    train(stage(None), sampler, settings, tmp_path)
    with pytest.raises(DataError, match=r"a run with other settings \(training\."):
        train(stage(None), sampler, replace(settings, **change), tmp_path)


@pytest.mark.parametrize("change", [{"sequences": 1}, {"sequences": 4, "accumulate": 4}, {"statistics_until": 3}])
def test_a_batch_too_small_for_batch_norm_is_refused_with_the_remedy(
    change: dict[str, Any], sampler: Sampler, tmp_path: Path
) -> None:
    one = replace(SETTINGS, **{"sequences": 1, "steps": 1, **change})
    with pytest.raises(
        DataError, match=r"^training\.sequences: expected at least 2 in a pass, got 1 .*statistics-until 0"
    ):
        train(stage(None), sampler, one, tmp_path)
    assert list(tmp_path.iterdir()) == []
    # The remedy that the message names.
    assert train(stage(None), sampler, replace(one, statistics_until=0), tmp_path).step == 1


class BrokenAt:
    """A sampler whose sample ``number`` has overlaps that are no numbers."""

    def __init__(self, sampler: Sampler, number: int) -> None:
        self.sampler, self.number = sampler, number

    def sample(self, number: int) -> Sample:
        found = self.sampler.sample(number)
        return found._replace(overlaps=found.overlaps * float("nan")) if number == self.number else found


def test_a_second_pass_of_nan_takes_back_what_the_first_moved(sampler: Sampler, tmp_path: Path) -> None:
    passes = replace(SETTINGS, sequences=4, accumulate=2)
    train(stage(None), sampler, replace(passes, steps=1), tmp_path / "one")
    # Of step 1's samples, 4 to 7, the second pass has 5 and 7.
    done = train(stage(None), BrokenAt(sampler, 5), replace(passes, steps=2), tmp_path / "two")  # type: ignore[arg-type]
    assert done.incidents == {"steps skipped": 1}
    got, wanted = (read_tensors(tmp_path / name / "checkpoint.safetensors")[0] for name in ("two", "one"))
    assert any("running_mean" in name for name in got)
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)


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
