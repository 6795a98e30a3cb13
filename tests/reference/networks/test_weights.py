from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mmdistill.reference.errors import DataError
from mmdistill.reference.networks.settings import student_settings, teacher_settings
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.networks.weights import (
    load_network,
    read_tensors,
    save_network,
    write_tensors,
)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[TrackerNetwork, Path]:
    network = TrackerNetwork(student_settings(width=4, crop_size=96)).eval()
    save_network(tmp_path / "network.safetensors", network)
    return network, tmp_path / "network.safetensors"


def test_a_round_trip_keeps_settings_and_every_bit(saved: tuple[TrackerNetwork, Path]) -> None:
    network, path = saved
    loaded = load_network(path)
    assert loaded.settings == network.settings
    assert not loaded.training
    torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_a_truncated_file_is_named(saved: tuple[TrackerNetwork, Path]) -> None:
    _, path = saved
    for length in (3, 100, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(DataError, match=r"network.safetensors: not a whole safetensors file"):
            load_network(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing.safetensors: there is no such file"):
        load_network(tmp_path / "missing.safetensors")
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="expected a network of format 'mmdistill-network-1', got 'no format'"):
        load_network(tmp_path / "other.safetensors")


def test_weights_of_another_architecture_are_listed(saved: tuple[TrackerNetwork, Path]) -> None:
    _, path = saved
    _, metadata = read_tensors(path)
    other = TrackerNetwork(teacher_settings(depth=18, width=4, crop_size=96)).state_dict()
    write_tensors(path, other, metadata)
    with pytest.raises(
        DataError, match=r"another architecture: missing fusions.0.gate.* and \d+ more; unknown fusions.0"
    ):
        load_network(path)
    wider = TrackerNetwork(student_settings(width=8, crop_size=96)).state_dict()
    write_tensors(path, wider, metadata)
    with pytest.raises(DataError, match=r"misshapen .* instead of"):
        load_network(path)
