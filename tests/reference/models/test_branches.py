import copy

import pytest
import torch

from mmdistill.reference.models.config import Classifier, single_settings, student_settings
from mmdistill.reference.models.tracker_network import (
    BRANCHES,
    PARTS,
    Role,
    TrackerNetwork,
    combine_networks,
    get_parts,
    to_tir_network,
)
from mmdistill.tir_cmd.settings import Module
from mmdistill.toolkit.data_issues import DataError


def network(seed: int, classifier: Classifier = "dimp") -> TrackerNetwork:
    torch.manual_seed(seed)
    made = TrackerNetwork(single_settings("rgb", width=4, crop_size=96, classifier=classifier))
    for buffer in made.buffers():
        buffer.add_(seed + 1)  # batch-norm statistics that tell the networks apart
    return made


def owners(name: str, made: TrackerNetwork, *sources: TrackerNetwork) -> list[int]:
    """The numbers of the networks, from 0, whose entry of this name is the same."""
    value = made.state_dict()[name]
    return [number for number, source in enumerate(sources) if torch.equal(source.state_dict()[name], value)]


def test_the_two_branches_together_are_all_of_a_tracker_but_its_trunk() -> None:
    made = network(0)
    modules: tuple[Module, ...] = ("bbe", "tcl")
    roles: list[Role] = [(module, branch) for module in modules for branch in BRANCHES]
    found = [id(parameter) for part in get_parts(made, roles) for parameter in part.parameters()]
    expected = [id(p) for name, p in made.named_parameters() if not name.startswith("trunks.")]
    assert sorted(found) == sorted(expected)  # each once, though the extractor has two roles
    box = [id(p) for part in get_parts(made, [("bbe", "reference"), ("bbe", "test")]) for p in part.parameters()]
    assert sorted(box) == sorted(id(p) for p in made.iou_net.parameters())


def test_assembled_bit_for_bit() -> None:
    sources = base, first, second = network(0), network(1), network(2)
    before = copy.deepcopy(base.state_dict())
    made = combine_networks(base, {("bbe", "reference"): first, ("tcl", "reference"): second})
    for name in made.state_dict():
        wanted = 1 if name.startswith(PARTS["bbe", "reference"]) else 2 if name.startswith("classifier.") else 0
        assert wanted in owners(name, made, *sources), name
    assert owners("iou_net.modulation3.0.weight", made, *sources) == [1]
    assert owners("iou_net.modulation3.1.running_mean", made, *sources) == [1]
    assert owners("iou_net.predictor.weight", made, *sources) == [0]
    assert not made.training
    torch.testing.assert_close(base.state_dict(), before, rtol=0, atol=0)
    with pytest.raises(DataError, match="expected donors with the network's settings"):
        combine_networks(base, {("bbe", "test"): network(1, "atom")})


def test_an_rgb_tracker_becomes_a_tir_tracker_of_the_same_bits() -> None:
    start = network(0)
    made = to_tir_network(start)
    assert (made.settings.modality, start.settings.modality) == ("tir", "rgb")
    torch.testing.assert_close(made.state_dict(), start.state_dict(), rtol=0, atol=0)
    assert made.trunks["one"].conv1.weight is not start.trunks["one"].conv1.weight
    with pytest.raises(DataError, match="expected a tracker of one modality, RGB or TIR, got one of both"):
        to_tir_network(TrackerNetwork(student_settings(width=4, crop_size=96)))
