"""Networks inside the package are found by name; files come first."""

from pathlib import Path

import pytest
import torch

from mmdistill.reference import Tracker
from mmdistill.reference.models import bundled
from mmdistill.reference.models.bundled import bundled_networks, find_weights
from mmdistill.reference.models.config import student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network, save_network
from mmdistill.toolkit.data_issues import DataError


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackerNetwork:
    """A network inside the package, in bfloat16."""
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "networks")
    (tmp_path / "networks").mkdir()
    network = TrackerNetwork(student_settings(width=4, crop_size=96)).eval().bfloat16()
    save_network(tmp_path / "networks" / "small.safetensors", network)
    return network


def test_a_network_is_loaded_by_name(network: TrackerNetwork) -> None:
    assert list(bundled_networks()) == ["small"]
    loaded = load_network("small")
    assert loaded.settings == Tracker.load("small", device="cpu").network.settings == network.settings
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype in (torch.float32, torch.int64)
        torch.testing.assert_close(tensor, network.state_dict()[name].to(tensor.dtype), rtol=0, atol=0)


@pytest.mark.usefixtures("network")
def test_a_file_of_the_same_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_weights("small") == bundled.FOLDER / "small.safetensors"
    (tmp_path / "small").touch()
    assert find_weights("small") == Path("small")


@pytest.mark.usefixtures("network")
def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"^large: there is no such file, and no bundled network .* \(small\)$"):
        load_network("large")
    for path in ("large.safetensors", "runs/large"):
        with pytest.raises(DataError, match=rf"^{path}: there is no such file$"):
            load_network(path)


def test_without_networks_a_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "none")
    with pytest.raises(DataError, match=r"^small: there is no such file$"):
        load_network("small")
