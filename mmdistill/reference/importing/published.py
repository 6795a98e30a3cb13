"""Networks and trunks from public files: DiMP and ATOM trackers, and ResNets of ImageNet.

Tensors get our names and shapes. A trunk comes from torchvision's file, from a file with folded batch norm, from a
tracker, or from our own trunk file.

With folded batch norm, the convolutions have a bias. Our trunks have none, so batch norm adds the bias and does nothing
else while it stays in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mmdistill.reference.importing.weights_file import WeightsFile, read_weights_file
from mmdistill.reference.models.config import Classifier, Depth, single_settings
from mmdistill.reference.models.resnet import ResNetTrunk
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import FORMAT_PREFIX, check_fit, load_state, write_tensors
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.ranges import RangeError

TRUNK_FORMAT = f"{FORMAT_PREFIX}trunk-2"

PUBLISHED_TRUNK = "feature_extractor."

TRUNK_PREFIXES = ("", PUBLISHED_TRUNK, "trunks.one.")
"""Prefixes of a trunk's parameters: alone, in public trackers, in ours."""

UNUSED_LAYERS = ("layer4.", "fc.")
"""Layers of a ResNet that trackers do not use."""

PUBLISHED_NAMES: Mapping[str, str] = {
    "trunks.one.": PUBLISHED_TRUNK,
    "classifier.extractor.": "classifier.feature_extractor.",
    "classifier.initialiser.convolution.": "classifier.filter_initializer.filter_conv.",
    "classifier.optimiser.log_step_length": "classifier.filter_optimizer.log_step_length",
    "classifier.optimiser.regularisation": "classifier.filter_optimizer.filter_reg",
    "classifier.optimiser.label.values": "classifier.filter_optimizer.label_map_predictor.weight",
    "classifier.optimiser.mask.values": "classifier.filter_optimizer.target_mask_predictor.0.weight",
    "classifier.optimiser.spatial_weight.values": "classifier.filter_optimizer.spatial_weight_predictor.weight",
    "iou_net.reference_level3.": "bb_regressor.conv3_1r.",
    "iou_net.reference_level4.": "bb_regressor.conv4_1r.",
    "iou_net.reference_pooled3.": "bb_regressor.fc3_1r.",
    "iou_net.modulation3.": "bb_regressor.fc34_3r.",
    "iou_net.modulation4.": "bb_regressor.fc34_4r.",
    "iou_net.test_level3.0.": "bb_regressor.conv3_1t.",
    "iou_net.test_level3.1.": "bb_regressor.conv3_2t.",
    "iou_net.test_level4.0.": "bb_regressor.conv4_1t.",
    "iou_net.test_level4.1.": "bb_regressor.conv4_2t.",
    "iou_net.box_level3.linear.": "bb_regressor.fc3_rt.linear.",
    "iou_net.box_level3.norm.": "bb_regressor.fc3_rt.bn.",
    "iou_net.box_level4.linear.": "bb_regressor.fc4_rt.linear.",
    "iou_net.box_level4.norm.": "bb_regressor.fc4_rt.bn.",
    "iou_net.predictor.": "bb_regressor.iou_predictor.",
}
"""Prefixes of parameter names in our networks, and in public checkpoints."""


def published_name(name: str) -> str:
    """Return the name of one of our parameters or buffers in public checkpoints.

    Raises:
        KeyError: they have no such parameter.

    >>> published_name("iou_net.test_level3.0.0.weight")
    'bb_regressor.conv3_1t.0.weight'
    """
    for ours, theirs in PUBLISHED_NAMES.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)


def published_shape(name: str, shape: Iterable[int]) -> tuple[int, ...]:
    """Return the shape of one of our parameters or buffers in public checkpoints.

    A function of the distance is a vector in ours, and a 1x1 convolution over distance bins in theirs.
    """
    return (1, *shape, 1, 1) if name.endswith(".values") else tuple(shape)


def rename_tensors(
    published: Mapping[str, Tensor], expected: Mapping[str, Tensor], prefix: str = ""
) -> dict[str, Tensor]:
    """Return published tensors with our names, shapes and dtypes.

    Args:
        published: tensors by published names.
        expected: the state dict of the module that they are for.
        prefix: of that module in a ``TrackerNetwork``, for example ``"iou_net."``; empty for a whole network.
    """
    return {
        name: published[published_name(prefix + name)].reshape(value.shape).to(value.dtype).contiguous()
        for name, value in expected.items()
    }


def is_published(file: WeightsFile) -> bool:
    """Return whether a file's tensors have the names of a public tracker."""
    return any(name.startswith((PUBLISHED_TRUNK, "bb_regressor.")) for name in file.tensors)


def published_network(file: WeightsFile, modality: Literal["rgb", "tir"] = "rgb") -> tuple[TrackerNetwork, list[str]]:
    """Return the network of a public checkpoint, in evaluation mode, and the names of unused entries.

    Depth and width come from the tensors, sizes from the checkpoint's training record if it has any. A checkpoint
    without a classifier is ATOM.

    Args:
        file: the checkpoint.
        modality: the network's modality.

    Raises:
        DataError: the checkpoint is of another tracker, or trained in an unsupported way; or entries are missing,
            unknown, misshapen or not finite. They are listed by their published names.
    """
    tensors, unused = drop_unused_layers(file.tensors, PUBLISHED_TRUNK)
    if reasons := file.record.unsupported(tensors):
        raise DataError(f"{file.path}: not supported: {'; '.join(reasons)}")
    classifier: Classifier = "dimp" if any(name.startswith("classifier.") for name in tensors) else "atom"
    depth, width = find_depth(tensors, PUBLISHED_TRUNK), find_width(tensors, PUBLISHED_TRUNK)
    try:
        settings = single_settings(modality, depth, width, classifier=classifier)
        sizes: dict[str, Any] = {name: number for name, (number, _) in file.record.sizes().items()}
        settings = replace(settings, **sizes)
    except RangeError as error:
        _, where = file.record.sizes().get(error.name.rpartition(".")[2], ("", ""))
        raise DataError(f"{file.path}: {where and f'{where}: '}{error}") from error
    except ValueError as error:
        raise DataError(f"{file.path}: {error}") from error
    with torch.device("meta"):  # allocate nothing before the shapes are checked
        network = TrackerNetwork(settings)
    expected = network.state_dict()
    layout = {
        published_name(name): value.reshape(published_shape(name, value.shape)) for name, value in expected.items()
    }
    tensors = add_batch_counts(tensors, layout)
    check_fit(layout, tensors, where=file.path)
    network.load_state_dict(rename_tensors(tensors, expected), assign=True)
    return network.eval(), unused


@dataclass(frozen=True)
class TrunkWeights:
    """The weights of a ResNet trunk.

    Attributes:
        path: the source file.
        depth: 18 or 50.
        tensors: by the names of ``ResNetTrunk``, complete.
        unused: names of the file's entries that a tracker does not use.
    """

    path: str
    depth: Depth
    tensors: dict[str, Tensor]
    unused: list[str]

    @property
    def folded(self) -> bool:
        """Whether batch norm was folded. It then has no statistics and must stay in evaluation mode."""
        return not any(value.any() for name, value in self.tensors.items() if name.endswith("running_mean"))


def read_trunk(path: str | Path) -> TrunkWeights:
    """Return the trunk of a file: torchvision's ``.pth``, a folded ``.npz``, our trunk file, or a tracker.

    Raises:
        DataError: the file is missing or broken, or has another architecture.
    """
    return find_trunk(read_weights_file(path))


def find_trunk(file: WeightsFile) -> TrunkWeights:
    """Return the trunk among a file's tensors.

    Raises:
        DataError: there is none, it has another architecture, or its values are not finite. Entries are listed by
            name.
    """
    prefix = next((prefix for prefix in TRUNK_PREFIXES if f"{prefix}conv1.weight" in file.tensors), None)
    if prefix is None:
        raise DataError(f"{file.path}: expected a ResNet or a tracker with one, got no conv1.weight")
    trunk = {name.removeprefix(prefix): value for name, value in file.tensors.items() if name.startswith(prefix)}
    tensors, unused = drop_unused_layers(trunk)
    if "conv1.bias" in tensors:
        tensors = _biases_to_norms(tensors)
    depth = find_depth(tensors)
    with torch.device("meta"):
        expected = ResNetTrunk(depth, find_width(tensors)).state_dict()
    tensors = add_batch_counts(tensors, expected)
    check_fit(expected, tensors, where=file.path)
    return TrunkWeights(file.path, depth, tensors, unused)


def save_trunk(path: str | Path, trunk: TrunkWeights) -> None:
    """Write a trunk file, which ``read_trunk`` reads."""
    write_tensors(path, trunk.tensors, {"format": TRUNK_FORMAT})


def load_trunks(network: TrackerNetwork, path: str | Path) -> TrunkWeights:
    """Load a file's trunk into every trunk of a network, and return it; see ``read_trunk``.

    Raises:
        DataError: the file is missing or broken, or its trunk does not fit the network.
    """
    weights = read_trunk(path)
    depth = network.settings.depth
    if weights.depth != depth:
        raise DataError(f"{path}: expected a ResNet-{depth} for this network, got a ResNet-{weights.depth}")
    for trunk in network.trunks.values():
        load_state(trunk, weights.tensors, where=str(path))
    return weights


def drop_unused_layers(tensors: Mapping[str, Tensor], prefix: str = "") -> tuple[dict[str, Tensor], list[str]]:
    """Return tensors without ``UNUSED_LAYERS`` of the trunk with this prefix, and the names of the dropped ones."""
    layers = tuple(prefix + layer for layer in UNUSED_LAYERS)
    unused = [name for name in tensors if name.startswith(layers)]
    return {name: value for name, value in tensors.items() if not name.startswith(layers)}, unused


def add_batch_counts(tensors: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """Return tensors with batch norm's ``num_batches_tracked``, which old files lack and nothing reads."""
    counts = {name: torch.tensor(0) for name in expected if name.endswith("num_batches_tracked")}
    return {**counts, **tensors}


def find_depth(tensors: Mapping[str, Tensor], prefix: str = "") -> Depth:
    """Return the depth of the trunk with this prefix: a ResNet-50 has blocks of three convolutions."""
    return 50 if f"{prefix}layer1.0.conv3.weight" in tensors else 18


def find_width(tensors: Mapping[str, Tensor], prefix: str = "") -> int:
    """Return the channels of the trunk's first convolution; 64 if there is no valid one."""
    first = tensors.get(f"{prefix}conv1.weight")
    return len(first) if first is not None and first.ndim == 4 and 0 < len(first) <= 1024 else 64


def _biases_to_norms(folded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return folded weights with every bias moved into a batch norm."""
    tensors: dict[str, Tensor] = {}
    for name, value in folded.items():
        layer, _, kind = name.rpartition(".")
        if kind == "bias":
            tensors |= _bias_norm(_norm_of(layer), value)
        else:
            tensors[name] = value
    return tensors


def _norm_of(convolution: str) -> str:
    """Return the name of the batch norm after a convolution, as torchvision names them."""
    if convolution.endswith("downsample.0"):
        return convolution.removesuffix("0") + "1"
    head, _, number = convolution.rpartition("conv")
    return f"{head}bn{number}"


def _bias_norm(name: str, bias: Tensor, epsilon: float = 1e-5) -> dict[str, Tensor]:
    """Return the entries of a batch norm that adds a bias in evaluation mode."""
    return {
        f"{name}.weight": torch.ones_like(bias),
        f"{name}.bias": bias,
        f"{name}.running_mean": torch.zeros_like(bias),
        f"{name}.running_var": torch.full_like(bias, 1 - epsilon),
    }
