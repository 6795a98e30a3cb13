"""Network weights on disk: ours in safetensors with the settings inside, and ImageNet trunks from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mmdistill.reference.errors import DataError
from mmdistill.reference.files import atomic_path
from mmdistill.reference.networks.resnet import ResNetTrunk
from mmdistill.reference.networks.rgbt import NetworkSettings, RGBTNetwork
from mmdistill.reference.settings import from_json, to_json

FORMAT = "mmdistill-network-1"


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata to a safetensors file, whole or not at all."""
    content = save({name: value.detach().contiguous().cpu() for name, value in tensors.items()}, dict(metadata))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a safetensors file's tensors and metadata.

    Raises:
        DataError: it is missing, truncated, or no safetensors file.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a whole safetensors file, truncated perhaps ({error})") from error


def save_network(path: str | Path, network: RGBTNetwork) -> None:
    """Write a network's weights and settings."""
    metadata = {"format": FORMAT, "network": to_json(network.settings)}
    write_tensors(path, network.state_dict(), metadata)


def load_network(path: str | Path) -> RGBTNetwork:
    """Return the network of a file, in evaluation mode.

    Raises:
        DataError: the file is missing, truncated, not one of ours, or its weights don't fit its settings.
    """
    tensors, metadata = read_tensors(path)
    network = RGBTNetwork(network_settings(path, metadata))
    load_state(network, tensors, where=str(path))
    return network.eval()


def network_settings(path: str | Path, metadata: Mapping[str, str]) -> NetworkSettings:
    """Return the settings in a weights file's metadata.

    Raises:
        DataError: they are missing or broken.
    """
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "no format")
        raise DataError(f"{path}: expected a network of format {FORMAT!r}, got {found!r}")
    try:
        return from_json(NetworkSettings, metadata["network"])
    except (KeyError, ValueError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: its network settings can't be read ({error})") from error


def load_state(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state that must fit exactly.

    Raises:
        DataError: entries are missing, unknown or misshapen, listed by name.
    """
    expected = module.state_dict()
    problems = []
    if missing := expected.keys() - tensors.keys():
        problems.append(f"missing {_some(missing)}")
    if unknown := tensors.keys() - expected.keys():
        problems.append(f"unknown {_some(unknown)}")
    misshapen = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if misshapen:
        problems.append(f"misshapen {_some(misshapen)}")
    if problems:
        raise DataError(f"{where}: weights of another architecture: {'; '.join(problems)}")
    module.load_state_dict(dict(tensors))


def load_imagenet_trunks(network: RGBTNetwork, path: str | Path) -> None:
    """Start every trunk of a network from ImageNet weights; see ``load_imagenet_trunk``."""
    for trunk in network.trunks.values():
        assert isinstance(trunk, ResNetTrunk)
        load_imagenet_trunk(trunk, path)


def load_imagenet_trunk(trunk: ResNetTrunk, path: str | Path) -> None:
    """Load a ResNet whose batch norm was folded into its convolutions, an ``.npz`` with torchvision's names.

    Batch norm then adds the folded bias and does nothing else, as long as it stays in evaluation mode. Layers the trunk
    has not (``layer4``, ``fc``) are passed over.

    Raises:
        DataError: the file is missing or broken, or holds another architecture.
    """
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            folded = {name: torch.from_numpy(file[name]) for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, BadZipFile) as error:
        raise DataError(f"{path}: not a readable .npz file ({error})") from error
    unused = ("layer4", "fc")
    state: dict[str, Tensor] = {name: value for name, value in trunk.state_dict().items() if "num_batches" in name}
    for name, value in folded.items():
        if name.startswith(unused):
            continue
        layer, _, kind = name.rpartition(".")
        if kind == "weight":
            state[name] = value
        else:
            state |= _identity_norm(_norm_of(layer), value)
    load_state(trunk, state, where=str(path))


def _norm_of(convolution: str) -> str:
    """Return the name of the batch norm behind a convolution, as torchvision names them."""
    if convolution.endswith("downsample.0"):
        return convolution.removesuffix("0") + "1"
    head, _, number = convolution.rpartition("conv")
    return f"{head}bn{number}"


def _identity_norm(name: str, bias: Tensor, epsilon: float = 1e-5) -> dict[str, Tensor]:
    return {
        f"{name}.weight": torch.ones_like(bias),
        f"{name}.bias": bias,
        f"{name}.running_mean": torch.zeros_like(bias),
        f"{name}.running_var": torch.full_like(bias, 1 - epsilon),
    }


def _some(names: Iterable[str], limit: int = 3) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
