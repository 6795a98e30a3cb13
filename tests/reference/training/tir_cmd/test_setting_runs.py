"""Runs of settings: the settings they start from, the parts they copy, and resuming."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_helpers import needs_signals

from mmdistill.reference.models.config import Classifier, single_settings, student_settings
from mmdistill.reference.models.tracker_network import PARTS, TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.training.sampler import Sample, Sampler
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.tir_cmd.runs import SettingRuns
from mmdistill.reference.training.tir_cmd.samples import PatchSamples, SettingSamples
from mmdistill.reference.training.tir_cmd.settings import SCHEDULES
from mmdistill.tir_cmd import SETTINGS, BranchSetting
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.image_pairs import open_pairs
from mmdistill.toolkit.interruption import Interruption

STEPS = 3
PLAN = replace(SCHEDULES["short"], steps=STEPS, rate_factor=1000.0, batch_size=2, checkpoint_every=1)


class KilledError(Exception):
    """Stands for the death of a process."""


def start(classifier: Classifier = "dimp") -> TrackerNetwork:
    torch.manual_seed(1)
    return TrackerNetwork(single_settings("rgb", width=4, crop_size=96, classifier=classifier))


def die() -> None:
    raise KilledError


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class Recorded:
    """Returns samples and records the settings; stops before the last step of one setting."""

    def __init__(self, pairs: Path, stops_in: str | None = None, how: Callable[[], None] = die) -> None:
        self.samples = PatchSamples(open_pairs(pairs), start().settings, progress=False)
        self.stops_in, self.how, self.requested = stops_in, how, list[str]()

    def __call__(self, setting: BranchSetting, training: TrainingSettings) -> SettingSamples:
        self.requested.append(setting.name)
        samples = self.samples(setting, training)
        if setting.name != self.stops_in:
            return samples
        return SettingSamples(Stopping(samples.sampler, self.how), samples.data)  # type: ignore[arg-type]


class Stopping:
    def __init__(self, sampler: Sampler, how: Callable[[], None]) -> None:
        self.sampler, self.how = sampler, how

    def sample(self, number: int) -> Sample:
        if number == 2 * (STEPS - 2):
            self.how()
        return self.sampler.sample(number)


def runs(folder: Path, samples: Recorded, network: TrackerNetwork | None = None) -> SettingRuns:
    return SettingRuns(network or start(), samples, PLAN.training, folder, progress=False)


def finished(made: TrackerNetwork | None) -> dict[str, torch.Tensor]:
    assert made is not None
    return made.state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_setting_runs_what_it_starts_from_and_others_share_it(noisy_pairs: Path, tmp_path: Path) -> None:
    samples = Recorded(noisy_pairs)
    d3 = runs(tmp_path, samples).network("D3")
    assert samples.requested == ["B1", "B2", "C1", "D3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["B1", "B2", "B3", "C1", "D3"]
    assert list(samples.samples.patched) == ["center"]
    assert same(finished(d3), load_network(tmp_path / "D3" / "network.safetensors").state_dict())
    before = (tmp_path / "B1" / "log.jsonl").read_text()
    d4 = runs(tmp_path, samples).network("D4")
    assert (tmp_path / "B1" / "log.jsonl").read_text() == before
    assert list(samples.samples.patched) == ["center", "random"]
    assert not same(finished(d3), finished(d4))


def test_a1_is_the_start_as_it_is(noisy_pairs: Path, tmp_path: Path) -> None:
    samples = Recorded(noisy_pairs)
    made = runs(tmp_path, samples).network("A1")
    assert made is not None
    assert made.settings.modality == "tir"
    assert same(made.state_dict(), start().state_dict())
    assert samples.requested == []
    assert list(tmp_path.iterdir()) == []


def test_b3_is_b1_and_b2_bit_for_bit_and_d_starts_from_it_and_c1(noisy_pairs: Path, tmp_path: Path) -> None:
    made = runs(tmp_path, Recorded(noisy_pairs))
    finished(made.network("D1"))
    states = {
        name: load_network(tmp_path / name / "network.safetensors").state_dict() for name in ("B1", "B2", "B3", "C1")
    }
    for name, value in states["B3"].items():
        donor = "B1" if name.startswith(PARTS["bbe", "reference"]) else "B2"  # B2's classifier is the start's
        assert torch.equal(value, states[donor][name]), name
    assert not same(states["B1"], states["B2"])
    begun = made._initial_network(SETTINGS["D1"])
    for name, value in finished(begun).items():
        donor = "C1" if name.startswith("classifier.") else "B3"
        assert torch.equal(value, states[donor][name]), name


@pytest.mark.parametrize("dies_in", ["B2", "D3"])
@pytest.mark.slow
def test_a_run_that_died_ends_as_one_that_never_stopped(dies_in: str, noisy_pairs: Path, tmp_path: Path) -> None:
    whole = finished(runs(tmp_path / "whole", Recorded(noisy_pairs)).network("D3"))
    with pytest.raises(KilledError):
        runs(tmp_path / "died", Recorded(noisy_pairs, dies_in)).network("D3")
    resumed = finished(runs(tmp_path / "died", Recorded(noisy_pairs)).network("D3"))
    assert same(resumed, whole)
    logs = [(tmp_path / name / dies_in / "log.jsonl").read_text() for name in ("whole", "died")]
    assert logs[0] == logs[1]


@needs_signals
def test_an_interruption_ends_all_and_the_same_call_goes_on(noisy_pairs: Path, tmp_path: Path) -> None:
    samples = Recorded(noisy_pairs, "B2", interrupt)
    with pytest.raises(Interruption):
        runs(tmp_path, samples).network("D3")
    assert samples.requested == ["B1", "B2"]
    assert not (tmp_path / "B2" / "network.safetensors").exists()
    finished(runs(tmp_path, Recorded(noisy_pairs)).network("D3"))


def test_what_is_there_must_be_of_the_same_start_and_schedule(noisy_pairs: Path, tmp_path: Path) -> None:
    runs(tmp_path, Recorded(noisy_pairs)).network("B1")
    torch.manual_seed(2)
    with pytest.raises(DataError, match=r"B1/checkpoint.safetensors: belongs to a run with other settings \(start was"):
        runs(tmp_path, Recorded(noisy_pairs), TrackerNetwork(start().settings)).network("B3")
    longer = SettingRuns(start(), Recorded(noisy_pairs), replace(PLAN, steps=9).training, tmp_path, progress=False)
    with pytest.raises(DataError, match=r"training.decay_every was 1, now 3"):
        longer.network("B1")


@pytest.mark.slow
def test_an_atom_has_no_c1_and_d_starts_from_b3_alone(noisy_pairs: Path, tmp_path: Path) -> None:
    samples = Recorded(noisy_pairs)
    made = runs(tmp_path, samples, start("atom"))
    assert "classifier.extractor.0.conv1.weight" not in finished(made.network("D3"))
    assert samples.requested == ["B1", "B2", "D3"]
    with pytest.raises(DataError, match="C1: tunes the classifier only"):
        made.network("C1")


def test_a_tracker_of_both_modalities_is_refused(noisy_pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the initial network: expected a tracker of one modality"):
        runs(tmp_path, Recorded(noisy_pairs), TrackerNetwork(student_settings(width=4, crop_size=96)))


def test_the_papers_schedule() -> None:
    paper = SCHEDULES["paper"].training(SETTINGS["B1"])
    assert (paper.steps, paper.batch_size, paper.decay_every, paper.decay_factor) == (260_000, 5, 78_000, 0.5)
    assert (paper.optimizer, paper.freeze_trunk) == ("adam", True)
    assert paper.learning_rates.iou_net == 1e-6
    assert paper.freeze_bn_after == 0
    assert replace(SCHEDULES["paper"], freeze_bn=False).training(SETTINGS["B1"]).freeze_bn_after is None
    assert SCHEDULES["paper"].training(SETTINGS["C1"]).learning_rates.classifier == 1e-6
    joint = SCHEDULES["paper"].training(SETTINGS["D3"]).learning_rates
    assert (joint.iou_net, joint.classifier, joint.optimizer) == (1e-7, 2e-8, 2e-8)
    short = SCHEDULES["short"].training(SETTINGS["D3"], precision="bfloat16", seed=3)
    assert short.learning_rates.iou_net == pytest.approx(1e-5)
    assert short.decay_every == pytest.approx(0.3 * short.steps)
    assert (short.precision, short.seed) == ("bfloat16", 3)
