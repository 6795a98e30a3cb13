from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from mmdistill.reference.models.config import NetworkSettings, single_settings, student_settings, teacher_settings
from mmdistill.reference.models.cost import network_cost, read_cost
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import save_network
from mmdistill.toolkit.data_issues import DataError


def convolutions(module: nn.Module, sides: dict[int, int]) -> int:
    """Multiply-adds of a chain of convolutions, from its weights and the side of the map each gives."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    return sum(layer.weight.numel() * sides[number] ** 2 for number, layer in enumerate(layers))


@pytest.mark.parametrize("classifier", ["dimp", "atom"])
def test_a_single_trackers_by_hand(classifier: str) -> None:
    settings = single_settings("tir", width=8, crop_size=96, classifier=classifier)
    network = TrackerNetwork(settings)
    trunk = network.trunks["one"]
    by_hand = 0
    for name, layer in trunk.named_modules():
        if isinstance(layer, nn.Conv2d):
            side = {"layer1": 24, "layer2": 12, "layer3": 6}.get(name.partition(".")[0], 48)
            by_hand += layer.weight.numel() * side**2
    by_hand += convolutions(network.iou_net.test_level3, dict.fromkeys(range(9), 12))
    by_hand += convolutions(network.iou_net.test_level4, dict.fromkeys(range(9), 6))
    if network.classifier is not None:
        by_hand += convolutions(network.classifier.extractor, dict.fromkeys(range(9), 6))
        by_hand += 32 * 4 * 4 * 6 * 6  # the filter, as one matrix product over the 6 x 6 features
    cost = network_cost(settings)
    assert cost.multiply_adds == by_hand
    assert cost.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert cost.what.startswith("DiMP on TIR" if classifier == "dimp" else "ATOM on TIR")


def test_two_modalities_cost_a_trunk_each_and_a_fusion() -> None:
    one, student, teacher = (
        network_cost(settings) for settings in (single_settings("rgb"), student_settings(), teacher_settings(depth=18))
    )
    assert one.multiply_adds < student.multiply_adds < teacher.multiply_adds < 3 * one.multiply_adds
    assert student.parameters == 10_988_025  # as docs/architecture.md says
    assert network_cost(teacher_settings()).parameters == 46_957_103


def test_of_a_file(tmp_path: Path) -> None:
    settings = NetworkSettings(width=4, crop_size=96)
    save_network(tmp_path / "network.safetensors", TrackerNetwork(settings))
    assert read_cost(tmp_path / "network.safetensors") == network_cost(settings)
    with pytest.raises(DataError, match="there is no such file"):
        read_cost(tmp_path / "none.safetensors")
