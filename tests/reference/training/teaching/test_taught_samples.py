"""A teacher that is asked once: the same bits, no stale features, nothing begun that the disk has no room for."""

import json
import logging
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mmdistill.reference.cli import main
from mmdistill.reference.data.batches import collate
from mmdistill.reference.data.sampling import Sample, Sampler
from mmdistill.reference.errors import DataError
from mmdistill.reference.interruption import Interruption
from mmdistill.reference.networks.settings import student_settings
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.networks.weights import load_network, save_network
from mmdistill.reference.training.loading import BEYOND
from mmdistill.reference.training.loop import train
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.stages import DistillationSettings, DistilledStage
from mmdistill.reference.training.teaching import taught_samples as module
from mmdistill.reference.training.teaching.fixed_samples import FixedSamples
from mmdistill.reference.training.teaching.taught_samples import TaughtSamples, taught_samples

SETTINGS = TrainingSettings(steps=5, sequences=2, checkpoint_every=2)
COUNT = 4


class CountingStage(DistilledStage):
    """Counts how often the teacher is asked."""

    asked = 0

    def teach(self, batch: Any) -> dict[str, Tensor]:
        self.asked += 1
        return super().teach(batch)


def stage(teacher: TrackerNetwork, distillation: DistillationSettings | None = None) -> CountingStage:
    torch.manual_seed(3)
    student = TrackerNetwork(student_settings(width=4, crop_size=96))
    return CountingStage(student, teacher, distillation=distillation)


def filled(
    folder: Path, made: DistilledStage, sampler: Sampler, settings: TrainingSettings = SETTINGS, count: int = COUNT
) -> TaughtSamples:
    return taught_samples(folder, made, sampler, count, settings, progress=False)


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


def state(folder: Path) -> Mapping[str, Tensor]:
    return load_network(folder / "network.safetensors").state_dict()


class Unreadable:
    """A sampler one of whose samples is broken."""

    def __init__(self, sampler: Sampler, number: int) -> None:
        self.sampler, self.number = sampler, number

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sampler, name)

    def sample(self, number: int) -> Sample:
        if number == self.number:
            raise DataError("frame.png: truncated")
        return self.sampler.sample(number)


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, sequences=4, accumulate=2),
        replace(SETTINGS, precision="bfloat16"),
        pytest.param(replace(SETTINGS, workers=2), marks=pytest.mark.slow),
    ],
    ids=["plain", "accumulated", "bfloat16", "workers"],
)
def test_a_run_from_the_cache_is_the_run_with_the_teacher_to_the_bit(
    settings: TrainingSettings, sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path
) -> None:
    without, cached = stage(teacher), stage(teacher)
    train(without, FixedSamples(sampler, COUNT, settings), settings, tmp_path / "without", progress=False)
    samples = filled(tmp_path / "cache", cached, sampler, settings)
    asked = cached.asked
    assert asked == COUNT // settings.sequences * settings.accumulate
    train(cached, samples, settings, tmp_path / "cached", progress=False)
    assert without.asked == settings.steps * settings.accumulate
    assert cached.asked == asked
    torch.testing.assert_close(state(tmp_path / "cached"), state(tmp_path / "without"), rtol=0, atol=0)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("without", "cached")]
    assert logs[0] == logs[1]


def test_fixed_samples_come_again_and_so_do_their_stand_ins(sampler: Sampler) -> None:
    fixed = FixedSamples(sampler, COUNT, SETTINGS)
    assert [fixed.sample(number).number for number in range(6)] == [0, 1, 2, 3, 0, 1]
    # The count is a power of two, as what stand-ins are numbered from: still another sample.
    assert fixed.sample(5 + 2 * BEYOND).number == 1 + 2 * BEYOND
    for count in (0, 3, -2):
        with pytest.raises(DataError, match=rf"--fixed-samples: expected a multiple of .*, 2, .*{count}"):
            FixedSamples(sampler, count, SETTINGS)


def test_what_is_there_is_taken_as_it_is_and_more_is_added(
    sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path, stage(teacher), sampler)
    before, said = files(tmp_path), capsys.readouterr().err
    assert len(before) == COUNT
    assert f"for {COUNT} samples of" in said
    again = stage(teacher, DistillationSettings(alpha=0.5))  # a weight of the student's: the teacher says the same
    filled(tmp_path, again, sampler)
    assert again.asked == 0
    assert capsys.readouterr().err == ""
    filled(tmp_path, stage(teacher), sampler, count=COUNT + 2)
    after = files(tmp_path)
    assert len(after) == COUNT + 2
    assert before.items() <= after.items()
    assert "for 2 samples of" in capsys.readouterr().err


def test_damaged_files_are_named_and_made_again(
    sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path, stage(teacher), sampler)
    whole = {path: path.read_bytes() for path in files(tmp_path)}
    for path, content in whole.items():
        path.write_bytes(content[: len(content) // 2])
    again = stage(teacher)
    filled(tmp_path, again, sampler)
    assert again.asked == COUNT // SETTINGS.sequences
    assert {path: path.read_bytes() for path in files(tmp_path)} == whole
    for path in whole:
        assert f"the teacher is asked again: {path}: not a whole file of features" in caplog.text
    other = next(iter(whole)).with_name("other.safetensors")
    for path in whole:
        path.unlink()
    save_file({"w": torch.zeros(1)}, other)
    with pytest.raises(DataError, match=f"--teacher-cache: {other}: expected features .*, got 'no format'"):
        filled(tmp_path, stage(teacher), sampler)


def test_features_come_back_as_they_lay_in_memory(sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path) -> None:
    made = stage(teacher)
    read = collate([filled(tmp_path, made, sampler).sample(number) for number in range(2)])
    batch = read.to(torch.device("cpu"))
    expected = made.teach(batch)
    assert batch.taught is not None
    assert list(batch.taught) == sorted(expected)
    for name, values in expected.items():
        torch.testing.assert_close(batch.taught[name], values, rtol=0, atol=0, check_stride=True)


def test_the_size_that_is_told_is_the_size_it_takes(
    sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path, stage(teacher), sampler)
    told = capsys.readouterr().err.partition("teacher: ")[2].split()[:2]
    took = sum(path.stat().st_size for path in files(tmp_path)) / {"MB": 1e6, "kB": 1e3}[told[1]]
    assert abs(took - float(told[0].replace(",", ""))) < 0.06  # told to a tenth, and each file has a header


def test_nothing_is_begun_that_the_disk_has_no_room_for(
    sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    with pytest.raises(DataError, match=r"--teacher-cache: .* would take .*MB for 4 samples of .* has 100.0 kB free"):
        filled(tmp_path, stage(teacher), sampler)
    assert not files(tmp_path)


@pytest.mark.parametrize("what", ["weights", "seed", "samples", "batch", "parts", "data", "labels"])
def test_features_of_anything_else_are_not_used(
    what: str, sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path
) -> None:
    made, source, settings = stage(teacher), sampler, SETTINGS
    filled(tmp_path, made, source, settings)
    asked, data, sequences = made.asked, "", sampler.sequences
    if what == "weights":
        with torch.no_grad():
            next(teacher.parameters()).view(-1)[0] += 1e-6
    elif what == "parts":
        made.parts = DistillationSettings(parts=("hfrd",))
    elif what == "batch":
        settings = replace(settings, sequences=4)
    elif what == "data":
        data = "other images with the same labels"
    elif what == "labels":
        sequences = sequences[:2]
    seed, drawn = sampler.seed + (what == "seed"), replace(sampler.settings, grey=0.9 if what == "samples" else 0.05)
    source = Sampler(sequences, 96, 5.0, drawn, seed=seed)
    taught_samples(tmp_path, made, source, COUNT, settings, data=data, progress=False)
    assert made.asked > asked
    assert len(list(tmp_path.iterdir())) == 2


def test_an_interrupted_filling_goes_on(sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path) -> None:
    class Interrupted(CountingStage):
        def teach(self, batch: Any) -> dict[str, Tensor]:
            if self.asked == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().teach(batch)

    stopped = stage(teacher)
    stopped.__class__ = Interrupted
    with pytest.raises(Interruption):
        taught_samples(tmp_path, stopped, sampler, 8, SETTINGS, progress=False)
    before = files(tmp_path)
    assert len(before) == 4
    last = stage(teacher)
    filled(tmp_path, last, sampler, count=8)
    assert last.asked == 2
    assert before.items() <= files(tmp_path).items()


def test_a_broken_or_missing_file_is_asked_about_again(
    sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = stage(teacher)
    samples = filled(tmp_path / "cache", made, sampler)
    path = sorted(files(tmp_path))[0]
    path.write_bytes(path.read_bytes()[:-10])
    made.asked = 0
    with caplog.at_level(logging.WARNING):
        train(made, samples, SETTINGS, tmp_path / "cached", progress=False)
    assert "the teacher is asked again" in caplog.text
    assert 0 < made.asked < SETTINGS.steps  # once in each round
    train(stage(teacher), FixedSamples(sampler, COUNT, SETTINGS), SETTINGS, tmp_path / "without", progress=False)
    torch.testing.assert_close(state(tmp_path / "cached"), state(tmp_path / "without"), rtol=0, atol=0)


def test_stand_ins_are_kept_under_their_own_number(sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path) -> None:
    made, broken = stage(teacher), Unreadable(sampler, 1)
    samples = taught_samples(tmp_path, made, broken, COUNT, SETTINGS, progress=False)  # type: ignore[arg-type]
    assert str(1 + BEYOND) in samples.cache
    assert "1" not in samples.cache
    made.asked = 0
    train(made, samples, SETTINGS, tmp_path / "run", progress=False)
    assert made.asked == 0


def test_a_disk_that_fills_up_on_the_way_is_told(
    sampler: Sampler, teacher: TrackerNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.FeatureCache, "put", full)
    with pytest.raises(DataError, match=r"can't be written .*No space left on device.*the same command goes on"):
        filled(tmp_path, stage(teacher), sampler)


@pytest.mark.slow
def test_the_command_distils_from_the_cache(
    teacher: TrackerNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_network(tmp_path / "teacher.safetensors", teacher)
    command = ["train", "student", "--data", "synthetic", "--videos", "2", "--width", "4", "--device", "cpu"]
    command += ["--teacher", str(tmp_path / "teacher.safetensors"), "--training.steps", "3"]
    command += ["--training.sequences", "2", "--training.samples.test-frames", "1"]
    fixed = ["--fixed-samples", "2"]
    assert main([*command, "--out", str(tmp_path / "plain"), *fixed]) == 0
    cache = ["--teacher-cache", str(tmp_path / "cache")]
    assert main([*command, "--out", str(tmp_path / "cached"), *fixed, *cache]) == 0
    assert "for 2 samples of" in capsys.readouterr().err
    torch.testing.assert_close(state(tmp_path / "cached"), state(tmp_path / "plain"), rtol=0, atol=0)
    (about,) = (tmp_path / "cache").glob("*/contents.json")
    assert json.loads(about.read_text())["batch"] == {"sequences": 2, "passes": 1, "processes": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["teacher", "--teacher-cache", "cache"], "--teacher-cache: is for a student"),
        (["student", "--teacher-cache", "cache"], "--teacher-cache: needs a --teacher and --fixed-samples"),
        (["student", "--teacher-cache", "cache", "--fixed-samples", "2"], "--teacher-cache: needs a --teacher and"),
        (["student", "--fixed-samples", "3", "--training.sequences", "2"], "--fixed-samples: expected a multiple of"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*options, "--width", "4", "--crop-size", "96", "--videos", "1"]
    assert main(["train", *options, "--data", "synthetic", "--out", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err
