"""The two branches of a tracker: which of its parts work on the reference frame, and which on the test frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from torch import nn

from mmdistill.reference.errors import DataError
from mmdistill.reference.networks.tracker_network import TrackerNetwork

Module = Literal["bbe", "tcl"]
Branch = Literal["reference", "test"]
Role = tuple[Module, Branch]

BRANCHES: tuple[Branch, ...] = ("reference", "test")

PARTS: Mapping[Role, tuple[str, ...]] = {
    ("bbe", "reference"): (
        "iou_net.reference_level3",
        "iou_net.reference_level4",
        "iou_net.reference_pooled3",
        "iou_net.modulation3",
        "iou_net.modulation4",
    ),
    ("bbe", "test"): (
        "iou_net.test_level3",
        "iou_net.test_level4",
        "iou_net.box_level3",
        "iou_net.box_level4",
        "iou_net.predictor",
    ),
    # One extractor serves both branches, so it is tuned where either is.
    ("tcl", "reference"): ("classifier.extractor", "classifier.initialiser", "classifier.optimiser"),
    ("tcl", "test"): ("classifier.extractor",),
}
"""The parts of box estimation (BBE) and of target centre location (TCL) in either branch; the trunk is in neither."""


def parts(network: TrackerNetwork, roles: Iterable[Role]) -> list[nn.Module]:
    """Return the parts that have these roles, each once."""
    names = dict.fromkeys(name for role in roles for name in PARTS[role])
    return [network.get_submodule(name) for name in names]


def with_parts(network: TrackerNetwork, donor: TrackerNetwork, roles: Iterable[Role]) -> TrackerNetwork:
    """Return a new network in evaluation mode: the donor's parts of these roles, all else the first network's.

    Raises:
        DataError: the two are built differently.
    """
    if donor.settings != network.settings:
        raise DataError("a network can only take parts of one that is built as it is")
    made = TrackerNetwork(network.settings)
    made.load_state_dict(network.state_dict())
    roles = list(roles)
    for mine, theirs in zip(parts(made, roles), parts(donor, roles), strict=True):
        mine.load_state_dict(theirs.state_dict())
    return made.eval()
