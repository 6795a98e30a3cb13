"""The graphs of a network that become ONNX files: functions of tensors with named inputs, outputs and axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mmdistill.pair import Pair
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.dimp_classifier import TargetClassifier
from mmdistill.reference.models.folding import fold_batch_norms
from mmdistill.reference.models.iou_net import STRIDES, IoUNet
from mmdistill.reference.models.pooled_iou import PooledIoU, join_maps
from mmdistill.reference.models.tracker_network import FUSED_LEVELS, TrackerNetwork

Sizes = Mapping[str, int]
"""Lengths of open axes by name."""


@dataclass(frozen=True)
class Input:
    """One input of a graph.

    Attributes:
        name: its name in the file.
        axes: lengths of its axes; a name for an open axis.
        kind: valid values: ``"map"`` any, ``"boxes"`` ``x y w h`` in crop pixels, ``"shares"`` sum to one over the
            first axis.
    """

    name: str
    axes: tuple[int | str, ...]
    kind: Literal["map", "boxes", "shares"] = "map"

    def draw(self, sizes: Sizes, crop_size: int, generator: torch.Generator) -> Tensor:
        """Return random valid values."""
        shape = tuple(axis if isinstance(axis, int) else sizes[axis] for axis in self.axes)
        if self.kind == "boxes":
            return crop_size * (0.3 + 0.2 * torch.rand(shape, generator=generator))
        if self.kind == "shares":
            return torch.rand(shape, generator=generator).softmax(dim=0)
        return torch.randn(shape, generator=generator)


@dataclass(frozen=True)
class Graph:
    """A part of the network that becomes one file.

    Attributes:
        name: part of the file's name between stem and suffix; empty for the features.
        summary: the function in one line, for the file's metadata.
        module: maps the inputs, as positional arguments, to the outputs.
        inputs: in the module's order.
        outputs: names of the outputs.
    """

    name: str
    summary: str
    module: nn.Module
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]

    def draw(self, sizes: Sizes, crop_size: int, seed: int) -> tuple[Tensor, ...]:
        """Return random valid inputs."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(node.draw(sizes, crop_size, generator) for node in self.inputs)

    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return PyTorch's outputs for inputs."""
        with torch.inference_mode():
            outputs: Tensor | tuple[Tensor, ...] = self.module(*inputs)
        return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def graphs(network: TrackerNetwork) -> list[Graph]:
    """Return a network's graphs, features first; ATOM has none for the target filter.

    Batch norm is folded in a copy of the network.
    """
    network = fold_batch_norms(network).cpu()
    filter_graphs = [] if network.classifier is None else _filter_graphs(network.classifier, network.settings)
    return [features_graph(network), *filter_graphs, *_box_graphs(network)]


def features_graph(network: TrackerNetwork) -> Graph:
    """Return the graph from images to fused and classification features, of a network with folded batch norms."""
    modality, side = network.settings.modality, network.settings.crop_size
    names = Pair._fields if modality == "rgbt" else (modality,)
    images = tuple(Input(name, ("batch", 3, side, side)) for name in names)
    outputs = ("level3", "level4") + (("classification",) if network.classifier is not None else ())
    return Graph("", f"from images to {', '.join(outputs)}", _Features(network), images, outputs)


def _filter_graphs(classifier: TargetClassifier, settings: NetworkSettings) -> list[Graph]:
    channels = classifier.initialiser.convolution.out_channels
    map_axes = (channels, settings.feature_size, settings.feature_size)
    filters = Input("filters", ("batch", channels, settings.filter_size, settings.filter_size))
    samples = Input("classification", ("frames", "batch", *map_axes))
    boxes = Input("boxes", ("frames", "batch", 4), "boxes")
    return [
        Graph(
            "scores",
            "scores of a frame's classification features by the target filter",
            _Scores(classifier),
            (filters, Input("classification", ("batch", *map_axes))),
            ("scores",),
        ),
        Graph(
            "initialiser",
            "the initial target filter from the first frame's samples and boxes",
            classifier.initialiser,
            (samples, boxes),
            ("filters",),
        ),
        Graph(
            "optimiser",
            "one step of the filter optimizer on samples weighted by their shares",
            _OptimizerStep(classifier),
            (filters, samples, boxes, Input("shares", ("frames", "batch"), "shares")),
            ("improved",),
        ),
    ]


def _box_graphs(network: TrackerNetwork) -> list[Graph]:
    iou_net, side = network.iou_net, network.settings.crop_size
    cells = tuple(side // stride for stride in STRIDES)
    pooled = iou_net.predictor.in_features // 2
    levels = tuple(
        Input(f"level{number}", ("batch", network.channels[level], size, size))
        for number, level, size in zip((3, 4), FUSED_LEVELS, cells, strict=True)
    )
    modulation = tuple(Input(f"modulation{number}", ("batch", pooled, 1, 1)) for number in (3, 4))
    maps = tuple(
        Input(f"box_map{number}", ("batch", size, size, pooled)) for number, size in zip((3, 4), cells, strict=True)
    )
    return [
        Graph(
            "modulation",
            "the modulation vectors of the target in the first frame's box",
            _Modulation(iou_net),
            (*levels, Input("boxes", ("batch", 4), "boxes")),
            tuple(vector.name for vector in modulation),
        ),
        Graph(
            "box_maps",
            "a frame's modulated maps, from which boxes are pooled",
            _BoxMaps(iou_net),
            (*levels, *modulation),
            tuple(box_map.name for box_map in maps),
        ),
        Graph(
            "boxes",
            "the predicted IoU of boxes, from -1 to 1, and its gradient with respect to the boxes",
            _Boxes(iou_net),
            (*maps, Input("boxes", ("batch", "boxes", 4), "boxes")),
            ("iou", "gradient"),
        ),
    ]


class _Features(nn.Module):
    def __init__(self, network: TrackerNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        fused = self.network.extract(Pair(images[0], images[-1])).fused
        if self.network.classifier is None:
            return tuple(fused)
        return *fused, self.network.classifier.features(fused[-1][None])[0]


class _Scores(nn.Module):
    def __init__(self, classifier: TargetClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, filters: Tensor, features: Tensor) -> Tensor:
        return self.classifier.score(filters[None], features[None])[0, 0]


class _OptimizerStep(nn.Module):
    def __init__(self, classifier: TargetClassifier) -> None:
        super().__init__()
        self.optimizer = classifier.optimiser

    def forward(self, filters: Tensor, features: Tensor, boxes: Tensor, shares: Tensor) -> Tensor:
        improved: Tensor = self.optimizer(filters, features, boxes, 1, shares)[-1]
        return improved


class _Modulation(nn.Module):
    def __init__(self, iou_net: IoUNet) -> None:
        super().__init__()
        self.iou_net = iou_net

    def forward(self, level3: Tensor, level4: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.iou_net.modulate(level3, level4, boxes))


class _BoxMaps(nn.Module):
    def __init__(self, iou_net: IoUNet) -> None:
        super().__init__()
        self.iou_net = iou_net

    def forward(self, level3: Tensor, level4: Tensor, *modulation: Tensor) -> tuple[Tensor, ...]:
        # Pooling is linear, so the maps are modulated once instead of every pooled box at every step.
        maps = (x * vector for x, vector in zip(self.iou_net.features(level3, level4), modulation, strict=True))
        return tuple(box_map.permute(0, 2, 3, 1) for box_map in maps)


class _Boxes(nn.Module):
    def __init__(self, iou_net: IoUNet) -> None:
        super().__init__()
        self.pooled_iou = PooledIoU(iou_net)

    def forward(self, box_map3: Tensor, box_map4: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        features = join_maps([box_map.permute(0, 3, 1, 2) for box_map in (box_map3, box_map4)])
        iou, gradient = self.pooled_iou(features, boxes)
        return iou, gradient
