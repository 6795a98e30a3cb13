"""The marks in a folder of results: the network and the sequences."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmdistill.cli.benchmark_run import claim
from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network, network_digest, read_tensors, save_network
from mmdistill.toolkit.data_issues import DataError

SETTINGS = single_settings("rgb", width=2, crop_size=96)
MARK = Path("results") / "weights.sha256"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_network(tmp_path / "network.safetensors", TrackerNetwork(SETTINGS))
    return tmp_path / "network.safetensors"


def test_a_network_that_is_saved_again_keeps_its_results(weights: Path, tmp_path: Path) -> None:
    claim(tmp_path / "out", weights, "rgbt234")
    before = weights.read_bytes()
    save_network(weights, load_network(weights))
    assert weights.read_bytes() == before
    other = tmp_path / "by_others.safetensors"
    save_file(load_file(weights), other, read_tensors(weights)[1])
    for same in (weights, other):
        claim(tmp_path / "out", same, "rgbt234")
        digest = (tmp_path / "out" / MARK).read_text().partition(" ")[0]
        assert digest == network_digest(load_network(weights))


def test_weights_or_settings_that_differ_are_others(weights: Path, tmp_path: Path) -> None:
    claim(tmp_path / "out", weights, "rgbt234")
    network = load_network(weights)
    wider = TrackerNetwork(replace(SETTINGS, search_area=6.0)).eval()
    wider.load_state_dict(network.state_dict())
    assert network_digest(wider) != network_digest(network)
    with torch.no_grad():
        network.get_parameter("iou_net.predictor.bias").neg_()  # 0.0 becomes -0.0, or another value
    for number, other in enumerate((wider, network)):
        path = tmp_path / f"{number}.safetensors"
        save_network(path, other)
        with pytest.raises(DataError, match="holds the results of other weights"):
            claim(tmp_path / "out", path, "rgbt234")


def test_a_mark_that_is_no_regular_file_is_refused(weights: Path, tmp_path: Path) -> None:
    mark = tmp_path / "out" / MARK
    mark.parent.mkdir(parents=True)
    os.mkfifo(mark)
    with pytest.raises(DataError, match=f"{mark}: expected a regular file, found a named pipe"):
        claim(tmp_path / "out", weights, "rgbt234")
