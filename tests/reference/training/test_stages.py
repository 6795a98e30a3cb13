"""Stages: their terms, the parameters each term reaches, and the tracking loss."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from training_helpers import load_batches, reached

from mmdistill.reference.models.config import Fusion, NetworkSettings, single_settings, teacher_settings
from mmdistill.reference.models.tracker_network import Predictions, TrackerNetwork
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import DistillationSettings, TrackingLossSettings, TrainingSettings
from mmdistill.reference.training.stages import (
    DistilledStage,
    SupervisedStage,
    prepare_network,
    score_labels,
    tracking_loss,
)
from mmdistill.reference.training.train_step import build_optimizer
from mmdistill.toolkit.data_issues import DataError

SIDES = ("train", "test")
EVERY_TERM = ["box", "last", "first", "middle", "specific", "common", "fusion", "penalty", "response"]

# Which of the student's parts a term must reach. The trunk is in all; the penalty weighs paths, so with its path loss
# detached it reaches what makes the weights. HFRD looks at the scores, which the box estimation has no part in.
REACHED = {
    "specific": {"trunks", "distillation"},
    "common": {"trunks", "distillation"},
    "fusion": {"trunks", "fusions", "distillation"},
    "penalty": {"trunks", "fusions"},
    "response": {"trunks", "fusions", "classifier"},
    "box": {"trunks", "fusions", "iou_net"},
    "last": {"trunks", "fusions", "classifier"},
    "first": {"trunks", "fusions", "classifier"},
    "middle": {"trunks", "fusions", "classifier"},
}


def unreached(stage: DistilledStage, parts: set[str]) -> list[str]:
    return [
        name
        for name, parameter in stage.named_parameters()
        if name.removeprefix("network.").split(".")[0] in parts
        and (parameter.grad is None or not parameter.grad.abs().sum() > 0)
    ]


@pytest.mark.parametrize("term", EVERY_TERM)
def test_each_term_reaches_what_it_should_and_no_teacher(
    term: str, student: TrackerNetwork, teacher: TrackerNetwork, sampler: Sampler
) -> None:
    stage = DistilledStage(student, teacher)
    with torch.no_grad():  # spread the path weights, so that the preferred path isn't the best one in every sample
        for fusion in student.fusions:
            fusion.path_weights[-1].weight *= 20  # type: ignore[index, union-attr]
    before = copy.deepcopy(teacher.state_dict())
    batch = next(load_batches(sampler, 4))
    stage.train()
    prepare_network(student, TrainingSettings())
    stage(batch)[term].backward()
    assert reached(stage) == REACHED[term]
    if term == "specific" or term == "common":
        # Deep maps pass through all of the trunk; common levels leave the shallower ABFs' outputs alone.
        assert not unreached(stage, {"trunks"})
    assert all(parameter.grad is None for parameter in teacher.parameters())
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)


def test_all_terms_together_reach_every_parameter(
    student: TrackerNetwork, teacher: TrackerNetwork, sampler: Sampler
) -> None:
    stage = DistilledStage(student, teacher)
    prepare_network(student, TrainingSettings())
    stage(next(load_batches(sampler, 4))).total.backward()
    assert not [name for name, p in stage.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_the_total_is_equation_fourteen(batch: Batch, student: TrackerNetwork, teacher: TrackerNetwork) -> None:
    terms = DistilledStage(student, teacher, distillation=DistillationSettings(alpha=0.5))(batch)
    assert list(terms) == EVERY_TERM
    tracking = terms["box"] + 100 * terms["last"] + 100 * terms["first"] + 400 * terms["middle"]
    features = terms["specific"] + terms["common"] + terms["fusion"] + terms["penalty"]
    torch.testing.assert_close(terms.total, tracking + 0.5 * features + 100 * terms["response"])


@pytest.mark.slow
def test_each_term_is_finite_after_a_hundred_steps(
    student: TrackerNetwork, teacher: TrackerNetwork, sampler: Sampler
) -> None:
    stage = DistilledStage(student, teacher)
    settings = TrainingSettings()
    prepare_network(student, settings)
    optimizer = build_optimizer(stage, settings)
    first, terms = None, None
    for batch in load_batches(sampler, 2, 0, 100):
        terms = stage(batch)
        first = first or {name: value.item() for name, value in terms.items()}
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
    assert terms is not None
    assert first is not None
    assert list(terms) == EVERY_TERM
    assert all(math.isfinite(value.item()) for value in terms.values())
    assert terms["box"].item() < first["box"]


@pytest.mark.parametrize("parts", [("scfd",), ("mpsd", "hfrd")])
def test_parts_can_be_left_out(
    parts: tuple[str, ...], batch: Batch, student: TrackerNetwork, teacher: TrackerNetwork
) -> None:
    stage = DistilledStage(student, teacher, distillation=DistillationSettings(parts=parts))  # type: ignore[arg-type]
    names = {"scfd": ["specific", "common"], "mpsd": ["fusion", "penalty"], "hfrd": ["response"]}
    assert list(stage(batch)) == EVERY_TERM[:4] + [name for part in parts for name in names[part]]


def test_the_teacher_is_no_part_of_the_stage(student: TrackerNetwork, teacher: TrackerNetwork) -> None:
    stage = DistilledStage(student, teacher)
    stage.train()
    assert not teacher.training
    own = {id(parameter) for parameter in stage.parameters()}
    assert not own & {id(parameter) for parameter in teacher.parameters()}
    assert not any(name.startswith("teacher") for name in stage.state_dict())


@pytest.mark.parametrize("distilled", [False, True])
def test_the_path_weights_entropy_is_logged(
    distilled: bool, batch: Batch, student: TrackerNetwork, teacher: TrackerNetwork
) -> None:
    stage = DistilledStage(student, teacher) if distilled else SupervisedStage(student)
    stage(batch)
    test = student(batch.train, batch.train_boxes, batch.test, batch.proposals).test
    for name, level in zip(("entropy level 3", "entropy level 4"), test.paths, strict=True):
        expected = -(level.weights * level.weights.log()).sum(dim=1).mean() / math.log(3)
        torch.testing.assert_close(stage.logged[name], expected.detach())
        assert not stage.logged[name].requires_grad
    plain = SupervisedStage(teacher)
    plain(batch)
    assert not plain.logged


def test_a_network_alone_has_the_tracking_terms(batch: Batch, teacher: TrackerNetwork) -> None:
    assert list(SupervisedStage(teacher)(batch)) == ["box", "last", "first", "middle"]


def test_networks_that_do_not_fit_are_refused(student: TrackerNetwork, teacher: TrackerNetwork) -> None:
    other = TrackerNetwork(teacher_settings(depth=18, width=4, crop_size=112))
    with pytest.raises(DataError, match="teacher: expected crop_size 96 as the student's, got 112"):
        DistilledStage(student, other)
    single = TrackerNetwork(single_settings("tir", width=4, crop_size=96))
    with pytest.raises(DataError, match="student: expected a network of both modalities, got 'tir'"):
        DistilledStage(single, teacher)
    with pytest.raises(DataError, match="teacher: expected a network of both modalities, got 'tir'"):
        DistilledStage(student, single)
    atom = TrackerNetwork(replace(student.settings, classifier="atom"))
    with pytest.raises(DataError, match="student: 'hfrd' compares scores"):
        DistilledStage(atom, teacher)


@pytest.mark.parametrize("fusion", ["concat", "spatial", "channel", "mdc-frs"])
@pytest.mark.slow
def test_every_fusion_of_table_three_can_be_distilled(fusion: Fusion, batch: Batch, teacher: TrackerNetwork) -> None:
    student = TrackerNetwork(NetworkSettings(fusion=fusion, width=4, crop_size=96))
    stage = DistilledStage(student, teacher)
    terms = stage(batch)
    # A fusion without a choice has no paths to penalize.
    assert list(terms) == [name for name in EVERY_TERM if name != "penalty"]
    terms.total.backward()
    assert not unreached(stage, {"trunks", "fusions", "classifier", "iou_net"})


@pytest.mark.parametrize("modality", ["rgb", "tir"])
def test_a_tracker_of_one_modality_learns_from_that_one(modality: Literal["rgb", "tir"], batch: Batch) -> None:
    torch.manual_seed(0)
    stage = SupervisedStage(TrackerNetwork(single_settings(modality, width=4, crop_size=96)).eval())
    terms = stage(batch)
    assert list(terms) == EVERY_TERM[:4]
    other = "tir" if modality == "rgb" else "rgb"
    unseen = torch.full_like(batch.train.rgb, torch.nan)
    blind = {side: getattr(batch, side)._replace(**{other: unseen[: len(getattr(batch, side)[0])]}) for side in SIDES}
    torch.testing.assert_close(stage(batch._replace(**blind)).total, terms.total)


def test_an_atom_learns_boxes_alone(batch: Batch) -> None:
    stage = SupervisedStage(TrackerNetwork(single_settings("tir", width=4, crop_size=96, classifier="atom")))
    assert list(stage(batch)) == ["box"]


def test_the_interaction_is_a_setting(batch: Batch, student: TrackerNetwork, teacher: TrackerNetwork) -> None:
    settings = DistillationSettings(parts=("scfd",), interaction=("sem",) * 4)
    assert list(DistilledStage(student, teacher, distillation=settings)(batch)) == [*EVERY_TERM[:4], "specific"]


def test_nothing_to_distil_is_refused() -> None:
    with pytest.raises(DataError, match=r"DistillationSettings\.parts: expected at least one"):
        DistillationSettings(parts=())


def test_values_are_dimps(batch: Batch, student: TrackerNetwork) -> None:
    predictions = student(batch.train, batch.train_boxes, batch.test, batch.proposals)
    label = score_labels(batch.test_boxes, student.settings)
    terms = tracking_loss(predictions, batch, label, TrackingLossSettings())
    scores, g = predictions.scores.detach().double().numpy(), label.double().numpy()
    errors = [np.mean(np.where(g < 0.05, np.maximum(s, 0), s - g) ** 2) for s in scores]
    iou = predictions.iou.detach().double().numpy()
    box = np.mean((iou - (2 * batch.overlaps.double().numpy() - 1)) ** 2)
    expected = {"box": box, "last": errors[-1], "first": errors[0], "middle": np.mean(errors[1:-1])}
    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4), name
    # The four middle iterates share 400 over their number, summed: 400 times their mean.
    total = box + 100 * errors[-1] + 100 * errors[0] + 400 * np.mean(errors[1:-1])
    assert terms.total.item() == pytest.approx(total, rel=1e-4)


def test_a_perfect_prediction_costs_nothing(batch: Batch, student: TrackerNetwork) -> None:
    label = score_labels(batch.test_boxes, student.settings)
    scores = torch.where(label < 0.05, -1.0, label).expand(6, *label.shape)
    perfect = Predictions(scores, 2 * batch.overlaps - 1, None)  # type: ignore[arg-type]
    assert tracking_loss(perfect, batch, label, TrackingLossSettings()).total.item() == 0


def test_labels_peak_at_the_target(batch: Batch, student: TrackerNetwork) -> None:
    label = score_labels(batch.test_boxes, student.settings)
    assert label.shape == (2, 2, 7, 7)
    center = (batch.test_boxes[..., :2] + batch.test_boxes[..., 2:] / 2) / 16
    for m in range(2):
        for s in range(2):
            x, y = center[m, s].tolist()
            if 0 <= x <= 6 and 0 <= y <= 6:
                assert label[m, s].argmax().item() == round(y) * 7 + round(x)
