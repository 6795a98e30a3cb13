"""Trained trunks: from torchvision, folded, inside trackers, and our own trunk file."""

from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mmdistill.reference.importing.published import load_trunks, read_trunk, save_trunk
from mmdistill.reference.models.config import single_settings, student_settings, teacher_settings
from mmdistill.reference.models.resnet import ResNetTrunk
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import save_network
from mmdistill.toolkit.data_issues import DataError


def trained(depth: Any = 18, width: int = 4) -> dict[str, Tensor]:
    """A trunk's state dict with random values, valid as weights."""
    with torch.device("meta"):
        trunk = ResNetTrunk(depth, width)
    return dict(checkpoints.random_state({name: value.shape for name, value in trunk.state_dict().items()}))


def unused(width: int = 4) -> dict[str, Tensor]:
    return {"layer4.0.conv1.weight": torch.randn(8 * width, 4 * width, 3, 3), "fc.bias": torch.randn(10)}


def fold_by_hand(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same trunk with batch norm multiplied into its convolutions."""
    result = {}
    for name, weight in state.items():
        layer = name.removesuffix(".weight")
        if weight.ndim != 4:
            continue
        norm = layer[:-1] + "1" if "downsample" in layer else layer.replace("conv", "bn")
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + 1e-5).sqrt()
        result[name] = weight * scale[:, None, None, None]
        result[f"{layer}.bias"] = state[f"{norm}.bias"] - scale * state[f"{norm}.running_mean"]
    return result


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("stream", [False, True])
def test_a_torchvision_file(tmp_path: Path, depth: int, stream: bool) -> None:
    state = trained(depth)
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    for number, tensors in enumerate((state, old)):
        path = tmp_path / f"{number}.pth"
        checkpoints.save(path, tensors | unused(), stream=stream)
        trunk = read_trunk(path)
        assert (trunk.depth, trunk.folded) == (depth, False)
        assert sorted(trunk.unused) == ["fc.bias", "layer4.0.conv1.weight"]
        assert trunk.tensors.keys() == state.keys()
        for name, value in tensors.items():
            torch.testing.assert_close(trunk.tensors[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_folded_trunk_computes_the_same(tmp_path: Path, depth: Any, suffix: str) -> None:
    state = trained(depth)
    path = tmp_path / f"folded{suffix}"
    if suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in (fold_by_hand(state) | unused()).items()})  # type: ignore[arg-type]
    else:
        save_file(fold_by_hand(state) | unused(), path)
    weights = read_trunk(path)
    assert (weights.depth, weights.folded) == (depth, True)
    plain, read = ResNetTrunk(depth, 4).eval(), ResNetTrunk(depth, 4).eval()
    plain.load_state_dict(state)
    read.load_state_dict(weights.tensors)
    images = torch.randn(1, 3, 64, 64)
    for got, wanted in zip(read(images), plain(images), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_real_folded_trunk_equals_its_convolutions_and_biases(real_data: Path) -> None:
    path = real_data / "weights" / "resnet18_imagenet_folded.npz"
    network = TrackerNetwork(single_settings("rgb")).eval()
    assert load_trunks(network, path).folded
    trunk = network.trunks["one"]
    images = torch.randn(1, 3, 64, 64)
    with np.load(path) as file:
        values = {name: torch.from_numpy(file[name]) for name in file.files}

    def convolve(name: str, x: Tensor, stride: int = 1) -> Tensor:
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


@pytest.mark.parametrize("fold", [False, True])
def test_a_trunk_file_is_bit_exact_and_keeps_folding(tmp_path: Path, fold: bool) -> None:
    state = trained()
    np.savez(
        tmp_path / "in.npz",
        **{name: value.numpy() for name, value in (fold_by_hand(state) if fold else state).items()},
    )  # type: ignore[arg-type]
    first = read_trunk(tmp_path / "in.npz")
    save_trunk(tmp_path / "trunk.safetensors", first)
    again = read_trunk(tmp_path / "trunk.safetensors")
    torch.testing.assert_close(again.tensors, first.tensors, rtol=0, atol=0)
    assert (again.depth, again.folded, again.unused) == (18, fold, [])


def test_the_trunk_inside_a_tracker(tmp_path: Path) -> None:
    network = TrackerNetwork(single_settings("rgb", width=4))
    network.load_state_dict(
        dict(checkpoints.random_state({name: value.shape for name, value in network.state_dict().items()}))
    )
    save_network(tmp_path / "ours.safetensors", network)
    layout = checkpoints.published_layout(network)
    net = checkpoints.random_state(layout)
    checkpoints.save_tracker(tmp_path / "public.pth", net)
    found = read_trunk(tmp_path / "ours.safetensors")
    torch.testing.assert_close(found.tensors, dict(network.trunks["one"].state_dict()), rtol=0, atol=0)
    name = "layer3.1.conv2.weight"
    torch.testing.assert_close(read_trunk(tmp_path / "public.pth").tensors[name], net[f"feature_extractor.{name}"])


def test_every_trunk_of_a_network_starts_from_the_file(tmp_path: Path) -> None:
    state = trained()
    checkpoints.save(tmp_path / "resnet.pth", state | unused())
    for settings in (student_settings(width=4, crop_size=96), teacher_settings(depth=18, width=4, crop_size=96)):
        network = TrackerNetwork(settings)
        load_trunks(network, tmp_path / "resnet.pth")
        assert len(network.trunks) == settings.streams
        for trunk in network.trunks.values():
            torch.testing.assert_close(dict(trunk.state_dict()), state, rtol=0, atol=0)


@pytest.mark.parametrize("stream", [False, True])
def test_tied_tensors_are_written_one_by_one(tmp_path: Path, stream: bool) -> None:
    state = trained()
    state["bn1.bias"] = state["bn1.weight"]
    checkpoints.save(tmp_path / "tied.pth", state, stream=stream)
    save_trunk(tmp_path / "trunk.safetensors", read_trunk(tmp_path / "tied.pth"))
    found = read_trunk(tmp_path / "trunk.safetensors").tensors
    torch.testing.assert_close(found, state, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("bn1.weight", lambda value: value.to(torch.complex64), "of another type bn1.weight torch.complex64"),
        ("bn1.weight", lambda value: value > 0, "of another type bn1.weight torch.bool"),
        ("bn1.weight", lambda value: value.long(), "of another type bn1.weight torch.int64"),
        ("bn1.num_batches_tracked", lambda value: value > 0, "of another type bn1.num_batches_tracked torch.bool"),
        ("bn1.bias", lambda value: value.index_fill(0, torch.tensor(2), float("nan")), "infinite or NaN bn1.bias"),
        ("bn1.bias", lambda value: value.index_fill(0, torch.tensor(2), float("-inf")), "infinite or NaN bn1.bias"),
        ("bn1.bias", lambda value: value.double().abs() + 1e300, "infinite or NaN bn1.bias"),  # it is in float32
    ],
)
def test_invalid_values_are_named(tmp_path: Path, name: str, change: Any, says: str) -> None:
    path = tmp_path / "odd.pth"
    state = trained()
    checkpoints.save(path, state | {name: change(state[name])})
    with pytest.raises(DataError, match=rf"odd.pth: invalid values: {says}$"):
        read_trunk(path)
    checkpoints.save(path, state | {"fc.bias": torch.tensor([float("nan")])})
    assert read_trunk(path).unused == ["fc.bias"]  # what is left out may be anything


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_size_are_weights(tmp_path: Path, kind: torch.dtype) -> None:
    state = {name: value.to(kind) if value.is_floating_point() else value.int() for name, value in trained().items()}
    checkpoints.save(tmp_path / "other.pth", state)
    torch.testing.assert_close(read_trunk(tmp_path / "other.pth").tensors, state, rtol=0, atol=0)


def test_folded_biases_that_are_no_floats_are_named(tmp_path: Path) -> None:
    state = fold_by_hand(trained())
    state["conv1.bias"] = state["conv1.bias"].to(torch.int32)
    np.savez(tmp_path / "odd.npz", **{name: value.numpy() for name, value in state.items()})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"odd.npz: invalid values: of another type bn1.bias torch.int32"):
        read_trunk(tmp_path / "odd.npz")


def test_a_trunk_of_another_size_is_refused(tmp_path: Path) -> None:
    network = TrackerNetwork(teacher_settings(depth=18, width=4, crop_size=96))
    checkpoints.save(tmp_path / "deep.pth", trained(50))
    with pytest.raises(DataError, match=r"deep.pth: expected a ResNet-18 for this network, got a ResNet-50"):
        load_trunks(network, tmp_path / "deep.pth")
    checkpoints.save(tmp_path / "wide.pth", trained(18, width=8))
    with pytest.raises(DataError, match=r"wide.pth: weights of another architecture: misshapen .* and \d+ more"):
        load_trunks(network, tmp_path / "wide.pth")
    other = trained() | {"layer1.2.conv1.weight": torch.zeros(4, 4, 3, 3)}  # a ResNet-34 has a third block
    del other["bn1.weight"]
    checkpoints.save(tmp_path / "other.pth", other)
    with pytest.raises(DataError, match=r"other.pth: .*: missing bn1.weight; unknown layer1.2.conv1.weight$"):
        read_trunk(tmp_path / "other.pth")
    np.savez(tmp_path / "narrow.npz", **{"conv1.weight": np.zeros((64, 3, 3, 3), np.float32)})
    with pytest.raises(
        DataError, match=r"narrow.npz: weights of another architecture: missing .*; misshapen conv1.weight"
    ):
        read_trunk(tmp_path / "narrow.npz")
    save_file({"backbone.weight": torch.zeros(1)}, tmp_path / "none.safetensors")
    with pytest.raises(DataError, match=r"none.safetensors: expected a ResNet .*, got no conv1.weight"):
        read_trunk(tmp_path / "none.safetensors")
