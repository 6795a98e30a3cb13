"""Public tracker checkpoints: exactly the entries of the published layout are read."""

import json
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
from helpers import GOLDEN
from torch import Tensor

from mmdistill.reference.importing.published import is_published, published_name, published_network, published_shape
from mmdistill.reference.importing.weights_file import WeightsFile, read_weights_file
from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network, save_network
from mmdistill.toolkit.data_issues import DataError


def layout(depth: int) -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads((GOLDEN / f"dimp{depth}_checkpoint_layout.json").read_text())
    return found


@pytest.mark.parametrize("depth", [18, 50])
def test_names_and_shapes_are_the_published_ones(depth: Any) -> None:
    with torch.device("meta"):
        network = TrackerNetwork(single_settings("rgb", depth))
    unused = ("feature_extractor.layer4.", "feature_extractor.fc.")
    used = {name: tuple(shape) for name, shape in layout(depth).items() if not name.startswith(unused)}
    assert checkpoints.published_layout(network) == used


@pytest.mark.parametrize(
    ("depth", "stream", "parameters", "left_out"),
    [(18, False, 10_739_183, 32), (18, True, 10_739_183, 32), (50, False, 26_083_567, 62)],
)
def test_a_checkpoint_of_the_published_layout(
    tmp_path: Path, depth: int, stream: bool, parameters: int, left_out: int
) -> None:
    net = checkpoints.random_state(layout(depth))
    checkpoints.save_tracker(tmp_path / "public.pth", net, stream=stream)
    state = read_weights_file(tmp_path / "public.pth")
    assert is_published(state)
    network, unused = published_network(state, "tir")
    assert network.settings == single_settings("tir", depth)  # type: ignore[arg-type]
    assert not network.training
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert len(unused) == left_out
    ours = network.state_dict()
    for name, value in ours.items():
        expected = net[published_name(name)]
        torch.testing.assert_close(value, expected.flatten() if name.endswith(".values") else expected, rtol=0, atol=0)
    assert len(ours) + len(unused) == len(net)


@pytest.fixture
def net() -> dict[str, Tensor]:
    """The tensors of a narrow DiMP-18 in a public checkpoint."""
    with torch.device("meta"):
        network = TrackerNetwork(single_settings("rgb", 18, width=4))
    return dict(checkpoints.random_state(checkpoints.published_layout(network)))


def test_width_is_found_and_counts_of_batches_may_be_missing(net: dict[str, Tensor]) -> None:
    older = {name: value for name, value in net.items() if not name.endswith("num_batches_tracked")}
    network, left_out = published_network(WeightsFile("old.pth", older))
    assert (network.settings, left_out) == (single_settings("rgb", 18, width=4), [])
    counts = [value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")]
    assert len(counts) == len(net) - len(older)
    assert not any(counts)


def test_other_dtypes_are_converted(net: dict[str, Tensor]) -> None:
    network, _ = published_network(WeightsFile("half.pth", {name: value.half() for name, value in net.items()}))
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    found = network.state_dict()["trunks.one.conv1.weight"]
    torch.testing.assert_close(found, net["feature_extractor.conv1.weight"], rtol=1e-3, atol=1e-6)


def test_tied_weights_become_independent(net: dict[str, Tensor], tmp_path: Path) -> None:
    weight, bias = (f"feature_extractor.bn1.{kind}" for kind in ("weight", "bias"))
    checkpoints.save(tmp_path / "tied.pth", {"net": net | {bias: net[weight]}})
    network, _ = published_network(read_weights_file(tmp_path / "tied.pth"))
    save_network(tmp_path / "tied.safetensors", network)
    state = load_network(tmp_path / "tied.safetensors").state_dict()
    torch.testing.assert_close(state["trunks.one.bn1.bias"], net[weight], rtol=0, atol=0)
    norm = network.trunks["one"].get_submodule("bn1")
    with torch.no_grad():
        norm.get_parameter("bias").zero_()
    torch.testing.assert_close(norm.get_parameter("weight").detach(), net[weight], rtol=0, atol=0)


def test_invalid_values_are_listed_by_their_published_names(net: dict[str, Tensor]) -> None:
    name = "classifier.filter_optimizer.label_map_predictor.weight"
    for value, says in (
        (net[name].to(torch.complex64), f"of another type {name} torch.complex64"),
        (net[name] * float("nan"), f"infinite or NaN {name}"),
    ):
        with pytest.raises(DataError) as raised:
            published_network(WeightsFile("odd.pth", net | {name: value}))
        assert str(raised.value) == f"odd.pth: invalid values: {says}"


def test_a_tracker_without_a_classifier_is_atom(net: dict[str, Tensor]) -> None:
    atom = {name: value for name, value in net.items() if not name.startswith("classifier.")}
    network, _ = published_network(WeightsFile("atom.pth", atom))
    assert network.settings.classifier == "atom"
    assert network.classifier is None


def test_misfits_are_listed_by_their_published_names(net: dict[str, Tensor]) -> None:
    del net["bb_regressor.iou_predictor.bias"]
    net["classifier.filter_optimizer.init_uni_weight"] = torch.zeros(1)
    net["classifier.filter_optimizer.label_map_predictor.weight"] = torch.zeros(1, 50, 2, 1)
    with pytest.raises(DataError) as raised:
        published_network(WeightsFile("other.pth", net))
    assert str(raised.value) == (
        "other.pth: weights of another architecture: missing bb_regressor.iou_predictor.bias; "
        "unknown classifier.filter_optimizer.init_uni_weight; "
        "misshapen classifier.filter_optimizer.label_map_predictor.weight (1, 50, 2, 1) instead of (1, 100, 1, 1)"
    )


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((5, 3, 7, 7), "width: expected .* got 5"),
        ((1 << 30, 0), "misshapen"),
        ((), "misshapen"),
        (None, "missing"),
    ],
)
def test_a_hostile_first_convolution_allocates_nothing(
    net: dict[str, Tensor], shape: tuple[int, ...] | None, says: str
) -> None:
    first = "feature_extractor.conv1.weight"
    if shape is None:
        del net[first]
    else:
        net[first] = torch.zeros(shape)
    with pytest.raises(DataError, match=rf"other.pth: .*{says}"):
        published_network(WeightsFile("other.pth", net))


def test_names_are_escaped_for_the_terminal(net: dict[str, Tensor]) -> None:
    net["bb_regressor.\x1b[2J"] = torch.zeros(1)
    with pytest.raises(DataError, match=r"unknown bb_regressor.\\x1b\[2J$"):
        published_network(WeightsFile("other.pth", net))


def test_names_that_no_public_checkpoint_has_are_refused() -> None:
    with pytest.raises(KeyError, match=r"fusions.0.gate.weight"):
        published_name("fusions.0.gate.weight")
    assert published_shape("iou_net.predictor.weight", (1, 512)) == (1, 512)
