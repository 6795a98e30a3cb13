"""A network's cost: parameters, and multiply-adds per frame."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from mmdistill.pair import Pair
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.toolkit.evaluation.efficiency import Cost


def read_cost(path: str | Path) -> Cost:
    """Return the cost of the network in a weights file.

    Raises:
        DataError: the file is missing or no network of mmdistill.
    """
    return network_cost(load_network(path).settings)


def network_cost(settings: NetworkSettings) -> Cost:
    """Return the cost of a network with these settings, counted on the meta device, without computing."""
    with torch.device("meta"):
        network = TrackerNetwork(settings).eval()
        images = torch.empty(1, 3, settings.crop_size, settings.crop_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        fused = network.extract(Pair(images, images)).fused
        network.iou_net.features(fused[0], fused[1])
        if network.classifier is not None:
            features = network.classifier.features(fused[1][None])
            cells = settings.filter_size
            network.classifier.score(features.new_empty(1, 1, features.shape[2], cells, cells), features)
    return Cost(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        multiply_adds=counter.get_total_flops() // 2,
        what=_describe(settings),
    )


def _describe(settings: NetworkSettings) -> str:
    kind = {"dimp": "DiMP", "atom": "ATOM"}[settings.classifier]
    modality = {"rgbt": "RGB and TIR", "rgb": "RGB", "tir": "TIR"}[settings.modality]
    trunks = f"{'two ' if settings.streams == 2 else ''}ResNet-{settings.depth}{'s' if settings.streams == 2 else ''}"
    fusion = "" if settings.fusion == "none" else f", {settings.fusion.upper()} fusion"
    return f"{kind} on {modality}, {trunks}{fusion}, crops of {settings.crop_size} pixels"
