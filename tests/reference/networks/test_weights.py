from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmdistill.reference.errors import DataError
from mmdistill.reference.networks.resnet import ResNetTrunk
from mmdistill.reference.networks.rgbt import RGBTNetwork, student_settings, teacher_settings
from mmdistill.reference.networks.weights import (
    load_imagenet_trunk,
    load_network,
    read_tensors,
    save_network,
    write_tensors,
)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[RGBTNetwork, Path]:
    network = RGBTNetwork(student_settings(width=4, crop_size=96)).eval()
    save_network(tmp_path / "network.safetensors", network)
    return network, tmp_path / "network.safetensors"


def test_a_round_trip_keeps_settings_and_every_bit(saved: tuple[RGBTNetwork, Path]) -> None:
    network, path = saved
    loaded = load_network(path)
    assert loaded.settings == network.settings
    assert not loaded.training
    torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_a_truncated_file_is_named(saved: tuple[RGBTNetwork, Path]) -> None:
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


def test_weights_of_another_architecture_are_listed(saved: tuple[RGBTNetwork, Path]) -> None:
    _, path = saved
    _, metadata = read_tensors(path)
    other = RGBTNetwork(teacher_settings(depth=18, width=4, crop_size=96)).state_dict()
    write_tensors(path, other, metadata)
    with pytest.raises(
        DataError, match=r"another architecture: missing fusions.0.gate.* and \d+ more; unknown fusions.0"
    ):
        load_network(path)
    wider = RGBTNetwork(student_settings(width=8, crop_size=96)).state_dict()
    write_tensors(path, wider, metadata)
    with pytest.raises(DataError, match=r"misshapen .* instead of"):
        load_network(path)


def test_a_folded_trunk_computes_what_its_convolutions_and_biases_say(real_data: Path) -> None:
    path = real_data / "weights" / "resnet18_imagenet_folded.npz"
    trunk = ResNetTrunk(18).eval()
    load_imagenet_trunk(trunk, path)
    images = torch.randn(1, 3, 64, 64)
    with np.load(path) as folded:
        values = {name: torch.from_numpy(folded[name]) for name in folded.files}

    def convolve(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight = values[f"{name}.weight"]
        return torch.nn.functional.conv2d(x, weight, values[f"{name}.bias"], stride, weight.shape[-1] // 2)

    x = convolve("conv1", images, 2).relu()
    expected = [x]
    x = torch.nn.functional.max_pool2d(x, 3, 2, 1)
    for layer, stride in (("layer1", 1), ("layer2", 2), ("layer3", 2)):
        for block in range(2):
            first = stride if block == 0 else 1
            name = f"{layer}.{block}"
            shortcut = convolve(f"{name}.downsample.0", x, first) if f"{name}.downsample.0.weight" in values else x
            x = (convolve(f"{name}.conv2", convolve(f"{name}.conv1", x, first).relu()) + shortcut).relu()
        expected.append(x)
    for got, wanted in zip(trunk(images), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_broken_or_foreign_npz_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 not much")
    with pytest.raises(DataError, match=r"cut.npz: not a readable .npz file"):
        load_imagenet_trunk(ResNetTrunk(18), tmp_path / "cut.npz")
    np.savez(tmp_path / "other.npz", **{"conv1.weight": np.zeros((64, 3, 3, 3), np.float32)})
    with pytest.raises(
        DataError, match=r"other.npz: weights of another architecture: missing .*; misshapen conv1.weight"
    ):
        load_imagenet_trunk(ResNetTrunk(18), tmp_path / "other.npz")
