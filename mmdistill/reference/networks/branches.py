"""The two branches of a tracker: which of its parts work on the reference frame, and which on the test frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import nn

from mmdistill.reference.errors import DataError
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.unsupervised.settings import Branch, Module

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


def assemble(network: TrackerNetwork, donors: Mapping[Role, TrackerNetwork]) -> TrackerNetwork:
    """Return a new network, in evaluation mode: the donors' parts of their roles, all else the first network's.

    TIR-CMD's setting B3 takes ``("bbe", "reference")`` from B1 and ``("bbe", "test")`` from B2, bit for bit.

    Raises:
        DataError: a donor is built differently.
    """
    made = TrackerNetwork(network.settings)
    made.load_state_dict(network.state_dict())
    for role, donor in donors.items():
        if donor.settings != network.settings:
            raise DataError("a network can only take parts of one that is built as it is")
        for mine, theirs in zip(parts(made, [role]), parts(donor, [role]), strict=True):
            mine.load_state_dict(theirs.state_dict())
    return made.eval()


def as_tir(network: TrackerNetwork) -> TrackerNetwork:
    """Return a copy of a tracker of one modality that takes TIR images, the same bits; in evaluation mode.

    Raises:
        DataError: a network of both modalities.
    """
    if network.settings.modality == "rgbt":
        raise DataError("the start: expected a tracker of one modality, RGB or TIR, got one of both")
    made = TrackerNetwork(replace(network.settings, modality="tir"))
    made.load_state_dict(network.state_dict())
    return made.eval()
