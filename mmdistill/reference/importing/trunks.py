"""Trained ResNet trunks from elsewhere: torchvision's, folded ones, those inside a tracker; and our own trunk files.

Folded means that batch norm was multiplied into the convolutions, which then have a bias. In our trunks, which have no
such bias, batch norm adds it and does nothing else, as long as it stays in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmdistill.reference.importing.state import State, read_state
from mmdistill.reference.models.resnet import Depth, ResNetTrunk
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import FORMAT_PREFIX, check_fit, load_state, write_tensors
from mmdistill.toolkit.data_issues import DataError

FORMAT = f"{FORMAT_PREFIX}trunk-2"

_UNUSED = ("layer4.", "fc.")
_PLACES = ("", "feature_extractor.", "trunks.one.")
"""Where a trunk may stand: alone, in public trackers, in ours."""


@dataclass(frozen=True)
class TrunkWeights:
    """A trained trunk.

    Attributes:
        path: the file it is from.
        depth: 18 or 50.
        tensors: by the names of ``ResNetTrunk``, complete.
        left_out: the file's entries that a tracker's trunk has not.
    """

    path: str
    depth: Depth
    tensors: dict[str, Tensor]
    left_out: list[str]

    @property
    def folded(self) -> bool:
        """Whether its batch norm was folded, so that it must stay in evaluation mode: it has no means of its own."""
        return not any(value.any() for name, value in self.tensors.items() if name.endswith("running_mean"))


def read_trunk(path: str | Path) -> TrunkWeights:
    """Return the trunk of a file: torchvision's ``.pth``, a folded ``.npz``, our trunk file, or inside a tracker's.

    Raises:
        DataError: the file is missing or broken, or holds another architecture.
    """
    return trunk_of(read_state(path))


def trunk_of(state: State) -> TrunkWeights:
    """Return the trunk among a file's tensors.

    Raises:
        DataError: there is none, it is of another architecture, or its values are no weights; entries are listed by
            name.
    """
    place = next((place for place in _PLACES if f"{place}conv1.weight" in state.tensors), None)
    if place is None:
        raise DataError(f"{state.path}: expected a ResNet or a tracker that has one, got no conv1.weight")
    inside = {name.removeprefix(place): value for name, value in state.tensors.items() if name.startswith(place)}
    tensors, left_out = without_unused(inside)
    if "conv1.bias" in tensors:
        tensors = _unfolded(tensors)
    depth = depth_of(tensors)
    with torch.device("meta"):
        expected = ResNetTrunk(depth, width_of(tensors)).state_dict()
    tensors = with_batch_counts(tensors, expected)
    check_fit(expected, tensors, where=state.path)
    return TrunkWeights(state.path, depth, tensors, left_out)


def save_trunk(path: str | Path, trunk: TrunkWeights) -> None:
    """Write a trunk to a file that ``read_trunk`` reads."""
    write_tensors(path, trunk.tensors, {"format": FORMAT})


def load_trunks(network: TrackerNetwork, path: str | Path) -> TrunkWeights:
    """Start every trunk of a network from a file; see ``read_trunk``. Returns what was read.

    Raises:
        DataError: the file is missing or broken, or its trunk isn't like the network's.
    """
    weights = read_trunk(path)
    depth = network.settings.depth
    if weights.depth != depth:
        raise DataError(f"{path}: expected a ResNet-{depth} for this network, got a ResNet-{weights.depth}")
    for trunk in network.trunks.values():
        load_state(trunk, weights.tensors, where=str(path))
    return weights


def without_unused(tensors: Mapping[str, Tensor], place: str = "") -> tuple[dict[str, Tensor], list[str]]:
    """Return tensors without ``layer4`` and ``fc`` of the trunk at a place, and these entries' names."""
    unused = tuple(place + part for part in _UNUSED)
    left_out = [name for name in tensors if name.startswith(unused)]
    return {name: value for name, value in tensors.items() if not name.startswith(unused)}, left_out


def with_batch_counts(tensors: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """Return tensors with batch norm's counts of batches, which older files have not and nothing uses."""
    counts = {name: torch.tensor(0) for name in expected if name.endswith("num_batches_tracked")}
    return {**counts, **tensors}


def depth_of(tensors: Mapping[str, Tensor], place: str = "") -> Depth:
    """Return the depth of the trunk at a place: a ResNet-50 has blocks of three convolutions."""
    return 50 if f"{place}layer1.0.conv3.weight" in tensors else 18


def width_of(tensors: Mapping[str, Tensor], place: str = "") -> int:
    """Return the channels of the first convolution of the trunk at a place; 64 if it has none that could be."""
    first = tensors.get(f"{place}conv1.weight")
    return len(first) if first is not None and first.ndim == 4 and 0 < len(first) <= 1024 else 64


def _unfolded(folded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, value in folded.items():
        layer, _, kind = name.rpartition(".")
        if kind == "bias":
            tensors |= _identity_norm(_norm_of(layer), value)
        else:
            tensors[name] = value
    return tensors


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
