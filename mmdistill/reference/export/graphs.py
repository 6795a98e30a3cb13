"""The parts of a tracker's network that become files: each a function of tensors, named and with its axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mmdistill.pair import Pair
from mmdistill.reference.models.box_gradient import PooledLevel, for_inference, iou_and_gradient
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.dimp_classifier import TargetClassifier
from mmdistill.reference.models.folding import folded
from mmdistill.reference.models.iou_net import STRIDES, TEST_BINS, IoUNet
from mmdistill.reference.models.tracker_network import FUSED_LEVELS, TrackerNetwork

Sizes = Mapping[str, int]
"""How long the axes are that a file leaves open, by name."""


@dataclass(frozen=True)
class Input:
    """One input of a graph.

    Attributes:
        name: its name in the file.
        axes: the lengths of its axes; a name where the file leaves it open.
        kind: what values make sense: ``"map"`` any, ``"boxes"`` ``x y w h`` in crop pixels, ``"shares"`` sum to one
            over the first axis.
    """

    name: str
    axes: tuple[int | str, ...]
    kind: Literal["map", "boxes", "shares"] = "map"

    def draw(self, sizes: Sizes, crop_size: int, generator: torch.Generator) -> Tensor:
        """Return random values that make sense."""
        shape = tuple(axis if isinstance(axis, int) else sizes[axis] for axis in self.axes)
        if self.kind == "boxes":
            return crop_size * (0.3 + 0.2 * torch.rand(shape, generator=generator))
        if self.kind == "shares":
            return torch.rand(shape, generator=generator).softmax(dim=0)
        return torch.randn(shape, generator=generator)


@dataclass(frozen=True)
class Graph:
    """A part of the network as one file.

    Attributes:
        name: of the file, between its stem and its suffix; empty for the features, the file that was asked for.
        summary: what it computes, a line for those who only have the file.
        module: takes the inputs in a row and returns the outputs in a row.
        inputs: in the order the module takes them.
        outputs: their names.
    """

    name: str
    summary: str
    module: nn.Module
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]

    def draw(self, sizes: Sizes, crop_size: int, seed: int) -> tuple[Tensor, ...]:
        """Return random inputs that make sense."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(given.draw(sizes, crop_size, generator) for given in self.inputs)

    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return what PyTorch makes of inputs."""
        with torch.inference_mode():
            outputs: Tensor | tuple[Tensor, ...] = self.module(*inputs)
        return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def graphs(network: TrackerNetwork) -> list[Graph]:
    """Return the files' graphs, features first; a network without a classifier has none for its filter.

    The network is folded and left as it is.
    """
    network = folded(network).cpu()
    made = [features_graph(network)]
    if network.classifier is not None:
        made += _filter_graphs(network.classifier, network.settings)
    return made + _box_graphs(network)


def features_graph(network: TrackerNetwork) -> Graph:
    """Return the graph from images to fused and classification features, of a network without batch norms."""
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
            "scores of a frame's classification features by its video's filter",
            _Scores(classifier),
            (filters, Input("classification", ("batch", *map_axes))),
            ("scores",),
        ),
        Graph(
            "initialiser",
            "a first filter from the targets' boxes in the first frame's samples",
            classifier.initialiser,
            (samples, boxes),
            ("filters",),
        ),
        Graph(
            "optimiser",
            "one step of the filter's optimizer on samples that weigh their shares",
            _OptimiserStep(classifier),
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
            "what the target in the first frame's box looks like",
            _Modulation(iou_net),
            (*levels, Input("boxes", ("batch", 4), "boxes")),
            tuple(vector.name for vector in modulation),
        ),
        Graph(
            "box_maps",
            "what boxes on a frame are pooled from",
            _BoxMaps(iou_net),
            (*levels, *modulation),
            tuple(box_map.name for box_map in maps),
        ),
        Graph(
            "boxes",
            "the predicted IoU of boxes, from -1 to 1, and its gradient in the boxes",
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


class _OptimiserStep(nn.Module):
    def __init__(self, classifier: TargetClassifier) -> None:
        super().__init__()
        self.optimiser = classifier.optimiser

    def forward(self, filters: Tensor, features: Tensor, boxes: Tensor, shares: Tensor) -> Tensor:
        improved: Tensor = self.optimiser(filters, features, boxes, 1, shares)[-1]
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
        # Pooling is linear: the maps are modulated once instead of every pooled box at every step.
        maps = (x * vector for x, vector in zip(self.iou_net.features(level3, level4), modulation, strict=True))
        return tuple(box_map.permute(0, 2, 3, 1) for box_map in maps)


class _Boxes(nn.Module):
    def __init__(self, iou_net: IoUNet) -> None:
        super().__init__()
        self.iou_net = iou_net

    def forward(self, box_map3: Tensor, box_map4: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        blocks = (self.iou_net.box_level3, self.iou_net.box_level4)
        levels = [
            PooledLevel(box_map, for_inference(block), stride, bins)
            for box_map, block, stride, bins in zip((box_map3, box_map4), blocks, STRIDES, TEST_BINS, strict=True)
        ]
        return iou_and_gradient(levels, self.iou_net.predictor, boxes)
