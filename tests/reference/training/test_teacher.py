"""The teacher shows what its whole network predicts, and computes no more than is compared."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from mmdistill import Pair
from mmdistill.reference.models.config import student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.distillation import (
    PARTS_ON_FUSED,
    PARTS_ON_LEVELS,
    PARTS_ON_RESPONSE,
    DistillationFeatures,
    DistillationSettings,
    Teacher,
)

EVERY_PART = sorted(PARTS_ON_LEVELS | PARTS_ON_FUSED | PARTS_ON_RESPONSE)


@pytest.fixture(autouse=True)
def _learned_statistics(batch: Batch, teacher: TrackerNetwork) -> None:
    """A teacher whose batch norms have something to fold."""
    teacher.train()
    with torch.no_grad():
        for _ in range(3):
            teacher(batch.train, batch.train_boxes, batch.test, batch.proposals)
    teacher.eval()


def whole(network: TrackerNetwork, batch: Batch) -> DistillationFeatures:
    """All that the network's own forward pass shows."""
    with torch.no_grad():
        predictions = network(batch.train, batch.train_boxes, batch.test, batch.proposals)
    return DistillationFeatures.from_predictions(predictions)


@pytest.mark.parametrize("part", EVERY_PART)
def test_it_shows_what_its_network_predicts(part: str, batch: Batch, teacher: TrackerNetwork) -> None:
    shown = Teacher(teacher, (part,)).features(batch)
    asked = [part in parts for parts in (PARTS_ON_LEVELS, PARTS_ON_FUSED, PARTS_ON_RESPONSE)]
    assert [each is not None for each in shown] == asked
    expected = DistillationFeatures(
        *(each if there else None for each, there in zip(whole(teacher, batch), asked, strict=True))
    )
    torch.testing.assert_close(shown, expected, rtol=1e-4, atol=1e-5)
    assert not any(values.requires_grad for values in tree_leaves(shown) if values is not None)


def test_parts_together_are_shown_together(batch: Batch, teacher: TrackerNetwork) -> None:
    shown = Teacher(teacher, DistillationSettings().parts).features(batch)
    torch.testing.assert_close(shown, whole(teacher, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", EVERY_PART)
def test_it_computes_no_more_than_is_compared(
    part: str, batch: Batch, teacher: TrackerNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    fused: list[int] = []
    levels, fuse = TrackerNetwork.levels, TrackerNetwork.fuse

    def counted_levels(self: TrackerNetwork, images: Pair[torch.Tensor]) -> Pair[list[torch.Tensor]]:
        seen.append(len(images.rgb))
        return levels(self, images)

    def counted_fuse(self: TrackerNetwork, found: Pair[list[torch.Tensor]], number: int) -> object:
        fused.append(number)
        return fuse(self, found, number)

    def refuse(*_: object) -> None:
        raise AssertionError("boxes are never estimated")

    made = Teacher(teacher, (part,))
    monkeypatch.setattr(TrackerNetwork, "levels", counted_levels)
    monkeypatch.setattr(TrackerNetwork, "fuse", counted_fuse)
    for name in ("modulate", "features", "predict"):
        monkeypatch.setattr(made._folded.iou_net, name, refuse)
    made.features(batch)
    test, train = (len(images) * len(images[0]) for images in (batch.test.rgb, batch.train.rgb))
    assert seen == ([test, train] if part in PARTS_ON_RESPONSE else [test])
    assert fused == ([1, 1] if part in PARTS_ON_RESPONSE else [0, 1] if part in PARTS_ON_FUSED else [])


def test_what_the_network_becomes_later_does_not_count(batch: Batch) -> None:
    torch.manual_seed(0)
    network = TrackerNetwork(student_settings(width=4, crop_size=96))
    made = Teacher(network, ("mpsd",))
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    before = made.features(batch)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    torch.testing.assert_close(made.features(batch), before, rtol=0, atol=0)
