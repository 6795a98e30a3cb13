"""TIR-CMD's stage: what sees what, what learns, and that nothing else moves by a bit."""

import copy
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training_helpers import load_batches

from mmdistill import TCLDistiller
from mmdistill.reference.models.config import Classifier, single_settings
from mmdistill.reference.models.tracker_network import PARTS, TrackerNetwork, to_tir_network
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import (
    PartLearningRates,
    SampleSettings,
    TrainingSettings,
)
from mmdistill.reference.training.stages import score_labels
from mmdistill.reference.training.tir_cmd.settings import CrossModalSettings
from mmdistill.reference.training.tir_cmd.stage import CrossModalStage
from mmdistill.reference.training.trainer import train
from mmdistill.tir_cmd import SETTINGS
from mmdistill.toolkit.data_issues import DataError

TRAINED = ["B1", "B2", "C1", "D1", "D2", "D3", "D4", "D5"]
FAST = TrainingSettings(steps=2, batch_size=3, learning_rates=PartLearningRates(*[1e-3] * 6), freeze_trunk=True)


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    video = SyntheticSettings(size=(160, 120), target_size=(20.0, 30.0), length=1)
    samples = SampleSettings(train_frames=1, test_frames=1)
    return Sampler(synthetic_sequences(6, seed=0, settings=video), 96, 5.0, samples)


@pytest.fixture
def batch(sampler: Sampler) -> Batch:
    return next(load_batches(sampler, 4))


def start(classifier: Classifier = "dimp") -> TrackerNetwork:
    torch.manual_seed(1)
    return to_tir_network(TrackerNetwork(single_settings("rgb", width=4, crop_size=96, classifier=classifier)))


def stage(name: str, settings: CrossModalSettings | None = None, classifier: Classifier = "dimp") -> CrossModalStage:
    return CrossModalStage(start(classifier), SETTINGS[name], settings)


def expected_parts(name: str, *, atom: bool = False) -> set[str]:
    """By hand, from Table 1: the modules that are updated, and the branches marked (ft)."""
    modules = {"B": ["bbe"], "C": ["tcl"], "D": ["bbe"] if atom else ["bbe", "tcl"]}[name[0]]
    branches = {"B1": ["reference"], "B2": ["test"], "C1": ["reference"], "D1": ["test"], "D2": ["reference"]}
    both = ["reference", "test"]
    return {part for m in modules for b in branches.get(name, both) for part in PARTS[m, b]}  # type: ignore[index]


@pytest.mark.parametrize("layout", ["halves", pytest.param("side-by-side", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", TRAINED)
def test_what_is_tuned_moves_and_nothing_else_by_a_bit(
    name: str, layout: str, sampler: Sampler, tmp_path: Path
) -> None:
    made = stage(name, CrossModalSettings(layout=layout))  # type: ignore[arg-type]
    train(made, sampler, FAST, tmp_path)
    before, after = start().state_dict(), load_network(tmp_path / "network.safetensors").state_dict()
    moved = {entry for entry in before if not torch.equal(before[entry], after[entry])}
    tuned = expected_parts(name)
    assert not [entry for entry in moved if not entry.startswith(tuple(tuned))]
    for part in tuned:
        inside = {entry for entry in before if entry.startswith(f"{part}.")}
        assert any("running" not in entry and "num" not in entry for entry in moved & inside), part
        assert {entry for entry in inside if "running" in entry} <= moved, part
    torch.testing.assert_close(made.teacher.state_dict(), before, rtol=0, atol=0)


def test_statistics_can_be_kept(sampler: Sampler, tmp_path: Path) -> None:
    train(stage("D3"), sampler, replace(FAST, freeze_bn_after=0), tmp_path)
    before, after = start().state_dict(), load_network(tmp_path / "network.safetensors").state_dict()
    moved = {entry for entry in before if not torch.equal(before[entry], after[entry])}
    assert moved
    assert not [entry for entry in moved if "running" in entry or "num_batches" in entry]


@pytest.mark.parametrize("name", ["B1", "B2", "D1", "D3"])
@pytest.mark.slow
def test_an_atom_learns_box_estimation_alone(name: str, sampler: Sampler, tmp_path: Path) -> None:
    done = train(stage(name, classifier="atom"), sampler, FAST, tmp_path)
    assert set(done.last) == {"box", "regularisation", "total"}
    before, after = start("atom").state_dict(), load_network(tmp_path / "network.safetensors").state_dict()
    moved = {entry for entry in before if not torch.equal(before[entry], after[entry])}
    tuned = tuple(expected_parts(name, atom=True))
    assert moved
    assert all(entry.startswith(tuned) for entry in moved)
    with pytest.raises(DataError, match="C1: tunes the classifier only, and an ATOM's is not trained"):
        stage("C1", classifier="atom")


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_that_is_tuned_gets_a_gradient(name: str, batch: Batch) -> None:
    made = stage(name)
    made.prepare(FAST)
    made(batch).total.backward()
    tuned = [(entry, p) for entry, p in made.network.named_parameters() if p.requires_grad]
    assert {entry for entry, _ in tuned} == {
        entry for entry, _ in made.network.named_parameters() if entry.startswith(tuple(expected_parts(name)))
    }
    # A convolution before batch norm in training mode has a bias that cancels.
    assert not [entry for entry, p in tuned if p.grad is None or not (p.grad.abs().sum() > 0 or "bias" in entry)]
    assert all(p.grad is None for p in made.teacher.parameters())


@pytest.mark.parametrize("residual", ["hinge", "squared"])
def test_c1_is_the_filter_of_tir_on_the_features_of_rgb(residual: Literal["hinge", "squared"], batch: Batch) -> None:
    made = stage("C1", CrossModalSettings(mu=0.01, residual=residual))
    made.prepare(FAST)
    student, teacher = copy.deepcopy(made.network), start()
    assert student.classifier is not None
    assert teacher.classifier is not None
    terms = made(batch)

    def deep(images: Tensor) -> Tensor:
        with torch.no_grad():
            return teacher.trunks["one"](images[0])[3][None]

    assert student.classifier.extractor.training  # statistics of the batch where it learns, of the start elsewhere
    filters = student.classifier.learn(student.classifier.features(deep(batch.train.tir)), batch.train_boxes, 5)
    features = teacher.classifier.features(deep(batch.test.rgb))
    expected = TCLDistiller(mu=0.01, residual=residual)(
        filters, features, score_labels(batch.test_boxes, teacher.settings)
    )
    torch.testing.assert_close(terms["classification"], expected["classification"])
    torch.testing.assert_close(terms["regularisation"], expected["regularisation"])
    torch.testing.assert_close(terms.total, expected.total)


def test_b1_is_the_modulation_of_tir_on_the_features_of_rgb(batch: Batch) -> None:
    made = stage("B1", CrossModalSettings(nu=0.01, box=3.0))
    made.prepare(FAST)
    student, teacher = copy.deepcopy(made.network).iou_net, start()
    terms = made(batch)
    with torch.no_grad():
        _, _, known3, known4 = teacher.trunks["one"](batch.train.tir[0])
        _, _, seen3, seen4 = teacher.trunks["one"](batch.test.rgb[0])
    modulation = student.modulate(known3, known4, batch.train_boxes[0])
    iou = teacher.iou_net.predict(modulation, teacher.iou_net.features(seen3, seen4), batch.proposals[0])
    box = (iou - (2 * batch.overlaps[0] - 1)).square().mean()
    norm = sum(vector.square().sum(dim=(1, 2, 3)) for vector in modulation).mean()  # type: ignore[union-attr]
    torch.testing.assert_close(terms["box"], box)
    torch.testing.assert_close(terms["regularisation"], 0.01 * norm)
    torch.testing.assert_close(terms.total, 3 * (box + 0.01 * norm))


class LocalTrunk(nn.Module):
    """Maps of which every cell sees its own pixels alone."""

    def forward(self, images: Tensor) -> list[Tensor]:
        shallow, deep = F.avg_pool2d(images, 8), F.avg_pool2d(images, 16)
        return [images, images, shallow.repeat(1, 3, 1, 1)[:, :8], deep.repeat(1, 6, 1, 1)[:, :16]]


def one_way(name: str, made: CrossModalStage, seen: tuple[str, str]) -> CrossModalStage:
    """The same stage, of which each branch sees one modality."""
    setting = replace(SETTINGS[name], reference=seen[0], test=seen[1])  # type: ignore[arg-type]
    return CrossModalStage(made.network, setting)


@pytest.mark.parametrize("layout", ["halves", "side-by-side"])
def test_mixing_is_both_ways_at_once(layout: str, batch: Batch) -> None:
    # In evaluation mode, as the stage is before training, samples don't know of each other.
    made = stage("D3", CrossModalSettings(layout=layout))  # type: ignore[arg-type]
    made.network.trunks["one"] = LocalTrunk()
    ways = [one_way("D3", made, seen) for seen in (("rgb", "tir"), ("tir", "rgb"))]
    if layout == "halves":
        parts = [batch.map(itemgetter((slice(None), half))) for half in (slice(0, 2), slice(2, 4))]
    else:
        parts = [batch, batch]
    with torch.no_grad():
        terms = made(batch)
        first, second = (way(part) for way, part in zip(ways, parts, strict=True))
    for name, value in terms.items():
        torch.testing.assert_close(value, (first[name] + second[name]) / 2)


def test_several_frames_a_sample(sampler: Sampler) -> None:
    settings = SampleSettings(train_frames=2, test_frames=3)
    several = Sampler(sampler.sequences, 96, 5.0, settings)
    (one,) = load_batches(several, 2)
    for layout in ("halves", "side-by-side"):
        made = stage("D3", CrossModalSettings(layout=layout))  # type: ignore[arg-type]
        made.prepare(FAST)
        assert torch.isfinite(made(one).total)


@pytest.mark.slow
def test_the_loss_falls(sampler: Sampler, tmp_path: Path) -> None:
    done = train(stage("D3"), sampler, replace(FAST, steps=60, batch_size=4), tmp_path)
    for name in ("classification", "box"):
        assert done.last[name] < 0.8 * done.first[name], name


def test_other_starts_settings_and_single_pairs_are_refused(sampler: Sampler, tmp_path: Path) -> None:
    train(stage("B1"), sampler, FAST, tmp_path)
    other = start()
    with torch.no_grad():
        other.iou_net.predictor.bias += 1
    with pytest.raises(DataError, match=r"a run with other settings \(start was \w+, now \w+\)"):
        train(CrossModalStage(other, SETTINGS["B1"]), sampler, FAST, tmp_path)
    with pytest.raises(DataError, match=r"\(cross_modal.nu was 1e-05, now 0.5\)"):
        train(stage("B1", CrossModalSettings(nu=0.5)), sampler, FAST, tmp_path)
    with pytest.raises(DataError, match=r"training.batch_size: expected at least 2 samples per pass, got 1"):
        train(stage("B1"), sampler, replace(FAST, batch_size=1), tmp_path / "other")
