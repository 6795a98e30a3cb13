"""Public checkpoints of DiMP and ATOM: their names for what our networks have, and the network of such a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from mmdistill.reference.importing.state import State
from mmdistill.reference.importing.trunks import depth_of, width_of, with_batch_counts, without_unused
from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import check_fit
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.ranges import RangeError

TRUNK = "feature_extractor."

PUBLISHED_NAMES: Mapping[str, str] = {
    "trunks.one.": TRUNK,
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
"""Beginnings of names, ours and the published ones; what follows is the same in both."""


def published_name(name: str) -> str:
    """Return what public checkpoints call a parameter or buffer of ours.

    Raises:
        KeyError: they have none such.

    >>> published_name("iou_net.test_level3.0.0.weight")
    'bb_regressor.conv3_1t.0.weight'
    """
    for ours, theirs in PUBLISHED_NAMES.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)


def published_shape(name: str, shape: Iterable[int]) -> tuple[int, ...]:
    """Return the shape that public checkpoints give a parameter or buffer of ours.

    A function of the distance is a list of values here and a 1x1 convolution over a map of distance bins there.
    """
    return (1, *shape, 1, 1) if name.endswith(".values") else tuple(shape)


def renamed(published: Mapping[str, Tensor], expected: Mapping[str, Tensor], place: str = "") -> dict[str, Tensor]:
    """Return published tensors by our names, in our shapes and types.

    Args:
        published: by their published names.
        expected: the state of the module that they are for.
        place: where that module stands in a ``TrackerNetwork``, as ``"iou_net."``; a whole network if not given.
    """
    return {
        name: published[published_name(place + name)].reshape(value.shape).to(value.dtype).contiguous()
        for name, value in expected.items()
    }


def is_published(state: State) -> bool:
    """Return whether a file's tensors are named as those of a public tracker."""
    return any(name.startswith((TRUNK, "bb_regressor.")) for name in state.tensors)


def published_network(state: State, modality: Literal["rgb", "tir"] = "rgb") -> tuple[TrackerNetwork, list[str]]:
    """Return the network of a public checkpoint, in evaluation mode, and what was left out of it.

    Depth and width are found from the tensors, sizes from what the checkpoint says of its training, where it does. A
    checkpoint without any classifier is one of ATOM.

    Args:
        state: the file's tensors.
        modality: what the network is to see.

    Raises:
        DataError: it is another tracker, or trained for what our networks don't do; or entries are missing, unknown,
            misshapen or no numbers, listed by their published names.
    """
    tensors, left_out = without_unused(state.tensors, TRUNK)
    if reasons := state.record.unsupported(tensors):
        raise DataError(f"{state.path}: not supported: {'; '.join(reasons)}")
    classified = any(name.startswith("classifier.") for name in tensors)
    try:
        settings = single_settings(
            modality, depth_of(tensors, TRUNK), width_of(tensors, TRUNK), classifier="dimp" if classified else "atom"
        )
        stated: dict[str, Any] = {name: number for name, (number, _) in state.record.sizes().items()}
        settings = replace(settings, **stated)
    except RangeError as error:
        _, where = state.record.sizes().get(error.name.rpartition(".")[2], ("", ""))
        raise DataError(f"{state.path}: {where and f'{where}: '}{error}") from error
    except ValueError as error:
        raise DataError(f"{state.path}: {error}") from error
    with torch.device("meta"):  # nothing is allocated before the file's shapes are known to be right
        network = TrackerNetwork(settings)
    expected = network.state_dict()
    layout = {
        published_name(name): value.reshape(published_shape(name, value.shape)) for name, value in expected.items()
    }
    tensors = with_batch_counts(tensors, layout)
    check_fit(layout, tensors, where=state.path)
    network.load_state_dict(renamed(tensors, expected), assign=True)
    return network.eval(), left_out
