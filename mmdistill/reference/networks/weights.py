"""Network weights on disk: safetensors with the settings inside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mmdistill.reference.errors import DataError
from mmdistill.reference.files import atomic_path
from mmdistill.reference.networks.settings import NetworkSettings
from mmdistill.reference.networks.tracker_network import TrackerNetwork
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
        with Path(path).open("rb") as file:
            if file.read(2) in (b"PK", b"\x80\x02"):
                raise DataError(f"{path}: from PyTorch, it seems; import it with `mmdistill convert`") from error
        raise DataError(f"{path}: not a whole safetensors file, truncated perhaps ({error})") from error


def save_network(path: str | Path, network: TrackerNetwork) -> None:
    """Write a network's weights and settings."""
    metadata = {"format": FORMAT, "network": to_json(network.settings)}
    write_tensors(path, network.state_dict(), metadata)


def load_network(path: str | Path) -> TrackerNetwork:
    """Return the network of a file, in evaluation mode.

    Raises:
        DataError: the file is missing, truncated, not one of ours, or its weights don't fit its settings.
    """
    tensors, metadata = read_tensors(path)
    network = TrackerNetwork(network_settings(path, metadata))
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
    check_fit({name: value.shape for name, value in module.state_dict().items()}, tensors, where=where)
    module.load_state_dict(dict(tensors))


def check_fit(expected: Mapping[str, Sequence[int]], tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Check that tensors have the names and shapes expected, and no others.

    Raises:
        DataError: entries are missing, unknown or misshapen, listed by name.
    """
    problems = []
    if missing := expected.keys() - tensors.keys():
        problems.append(f"missing {some(missing)}")
    if unknown := tensors.keys() - expected.keys():
        problems.append(f"unknown {some(unknown)}")
    misshapen = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != tuple(shape)
    ]
    if misshapen:
        problems.append(f"misshapen {some(misshapen)}")
    if problems:
        raise DataError(f"{where}: weights of another architecture: {'; '.join(problems)}")


def some(names: Iterable[str], limit: int = 3) -> str:
    """Return the first few names and how many more there are; what can't be printed is escaped."""
    listed = sorted(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(name if name.isprintable() else ascii(name) for name in listed[:limit]) + more
