"""The functions of a tracker that become ONNX files: the first frame, a tracked frame, and learning.

Shapes are fixed, so that every runtime accepts the files. Integers are int32, because some runtimes lack int64 inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmdistill.reference.export.graph_inputs import (
    Input,
    draw_boxes,
    draw_integers,
    draw_kept,
    draw_numbers,
    draw_pixels,
    draw_shares,
)
from mmdistill.reference.models.atom_classifier import OnlineSettings
from mmdistill.reference.models.folding import fold_batch_norms
from mmdistill.reference.models.iou_net import Modulation
from mmdistill.reference.models.tracker_network import FUSED_LEVELS, TrackerNetwork
from mmdistill.reference.tracking.frame_inputs import num_numbers
from mmdistill.reference.tracking.settings import TrackingSettings
from mmdistill.reference.tracking.state import TargetState
from mmdistill.reference.tracking.step import TrackStep

BOX = "x y w h in crop pixels"


@dataclass(frozen=True)
class Graph:
    """A function that becomes one file.

    Attributes:
        name: of the file, without suffix.
        summary: the function in one line, for the file's metadata.
        module: maps the inputs, as positional arguments, to the outputs.
        inputs: in the module's order.
        outputs: names of the outputs in order, and what they hold.
        continuous: outputs without thresholds and choices; in float16 and int8 only these are compared.
        max_error: limit of a float32 file's relative error, above what rounding causes.
    """

    name: str
    summary: str
    module: nn.Module
    inputs: tuple[Input, ...]
    outputs: Mapping[str, str]
    continuous: tuple[str, ...]
    max_error: float = 1e-4

    def draw(self, seed: int) -> tuple[Tensor, ...]:
        """Return random valid inputs."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(node.draw(node.shape, generator) for node in self.inputs)

    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return PyTorch's outputs for inputs."""
        with torch.inference_mode():
            outputs: Tensor | tuple[Tensor, ...] = self.module(*inputs)
        return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def graphs(network: TrackerNetwork, settings: TrackingSettings, slots: int = 1, *, half: bool = False) -> list[Graph]:
    """Return the graphs ``start``, ``track`` and ``learn`` of a tracker.

    Args:
        network: any network; not changed.
        settings: the constants of tracking, with one dropout in the first frame or more.
        slots: videos per call of ``track`` and ``learn``.
        half: whether features are computed in float16, see ``to_half``.
    """
    folded = fold_batch_norms(network).cpu()
    step = TrackStep(to_half(folded) if half else folded, settings)
    shapes = _Shapes(folded, settings, slots)
    return [_start_graph(step, shapes), _track_graph(step, shapes), _learn_graph(step, shapes)]


class _Shapes:
    """Sizes of a tracker, and the inputs that several graphs have."""

    def __init__(self, network: TrackerNetwork, settings: TrackingSettings, slots: int) -> None:
        sizes, self.slots, memory = network.settings, slots, settings.learning.memory
        self.crop, self.modalities = sizes.crop_size, 2 if sizes.modality == "rgbt" else 1
        deep, pooled = network.channels[FUSED_LEVELS[1]], network.iou_net.predictor.in_features // 2
        classifier = network.classifier
        if classifier is None:
            self.channels = min(OnlineSettings().channels, deep)
        else:
            self.channels = classifier.initialiser.convolution.out_channels
        filter_axes = (self.channels, sizes.filter_size, sizes.filter_size)
        self.filters = Input("filters", (slots, *filter_axes), "the target model")
        projection = Input("projection", (slots, self.channels, deep), "the target model's projection")
        self.model = (projection, self.filters) if classifier is None else (self.filters,)
        self.modulation = tuple(
            Input(f"modulation{level}", (slots, pooled, 1, 1), f"the target, for boxes on level {level}")
            for level in (3, 4)
        )
        self.weights = Input("weights", (memory, slots), "weights of the samples; 0 in free rows", draw=draw_shares)
        maps = (memory, slots, self.channels, sizes.feature_size, sizes.feature_size)
        self.samples = Input("samples", maps, "the memory: maps of the samples")
        self.boxes = Input("boxes", (memory, slots, 4), f"the memory: targets, {BOX}", draw=draw_boxes(self.crop))

    def pixels(self, count: int) -> Input:
        """Return the input of crops."""
        shape = (count, self.modalities, self.crop, self.crop, 3)
        meaning = "crops, 0 to 255, channels R G B; RGB before TIR"
        return Input("pixels", shape, meaning, torch.uint8, draw_pixels)


def _start_graph(step: TrackStep, shapes: _Shapes) -> Graph:
    first = step.settings.first_frame
    crops = 1 + len(first.transforms)
    modulation = {node.name: node.meaning for node in shapes.modulation}
    pixels = shapes.pixels(crops)
    if step.network.classifier is None:
        box = Input("boxes", (1, 4), f"the target in the first crop, {BOX}", draw=draw_boxes(shapes.crop))
        outputs = {"features": "fused level 4 of all crops, from which the target model is learned", **modulation}
        summary = "the features of a first frame of one video; its target model is not included"
        return Graph("start", summary, _ATOMStart(step), (pixels, box), outputs, tuple(outputs))
    boxes = Input("boxes", (first.samples, 4), f"the targets in all samples, {BOX}", draw=draw_boxes(shapes.crop))
    kept = Input("kept", (first.dropouts, shapes.channels), "1, or 0 where a channel is dropped", draw=draw_kept)
    outputs = {"filters": shapes.filters.meaning, "samples": "maps of all samples, for the memory", **modulation}
    inputs = (pixels, boxes, kept)
    # The optimizer's ten steps amplify rounding.
    return Graph("start", "the first frame of one video", _Start(step), inputs, outputs, tuple(outputs), 1e-3)


def _track_graph(step: TrackStep, shapes: _Shapes) -> Graph:
    slots = shapes.slots
    columns = num_numbers(1 + step.settings.refinement.random_boxes)
    crop = draw_numbers(shapes.crop)
    first, memory = step.settings.first_frame.samples, step.settings.learning.memory
    counts = (
        Input("count", (slots,), "rows of the memory in use", torch.int32, draw_integers(first + 1, memory + 1)),
        Input("newest", (slots,), "row of the newest sample, or -1", torch.int32, draw_integers(first, first + 1)),
    )
    numbers = Input("numbers", (slots, columns), "active, iterations, origin, scale, boxes, jitter", draw=crop)
    outputs = {
        "rows": "x y w h in image pixels, score, flag, iterations that are due",
        "score_maps": "scores of all positions",
        "sample": "the frame's map, for the memory",
        "box": f"the target in it, {BOX}",
        "row": "row of the memory that takes sample and box; the number of rows if none",
        "new_weights": "replaces weights",
        "new_count": "replaces count",
        "new_newest": "replaces newest",
    }
    inputs = (shapes.pixels(slots), numbers, *shapes.model, *shapes.modulation, shapes.weights, *counts)
    return Graph("track", "one frame of each slot", _Track(step), inputs, outputs, ("score_maps", "sample"))


def _learn_graph(step: TrackStep, shapes: _Shapes) -> Graph:
    learning = step.settings.learning
    most = max(learning.iterations, learning.hard_negative_iterations)
    iterations = Input(
        "iterations", (shapes.slots,), f"of each slot, 0 to {most}", torch.int32, draw_integers(0, most + 1)
    )
    inputs = (shapes.filters, shapes.samples, shapes.boxes, shapes.weights, iterations)
    outputs = {"new_filters": shapes.filters.meaning}
    # Conjugate gradients amplify rounding.
    limit = 1e-4 if step.network.classifier is not None else 1e-2
    return Graph("learn", "the target models, improved", _Learn(step, most), inputs, outputs, tuple(outputs), limit)


class _ATOMStart(nn.Module):
    def __init__(self, step: TrackStep) -> None:
        super().__init__()
        self.step = step

    def forward(self, pixels: Tensor, box: Tensor) -> tuple[Tensor, ...]:
        network = self.step.network
        shallow, deep = network.extract(self.step.images(pixels.float())).fused
        return deep, *network.iou_net.modulate(shallow[:1], deep[:1], box)


class _Start(nn.Module):
    """The first frame; see ``BatchTracker.start``."""

    def __init__(self, step: TrackStep) -> None:
        super().__init__()
        self.step = step

    def forward(self, pixels: Tensor, boxes: Tensor, kept: Tensor) -> tuple[Tensor, ...]:
        step, first = self.step, self.step.settings.first_frame
        shallow, deep = step.network.extract(step.images(pixels.float())).fused
        features = step.model.features(deep[:, None])
        dropped = features[:1] * kept[:, None, :, None, None] / (1 - first.dropout)
        features = torch.cat([features, dropped])
        (filters,) = step.model.learn(features, boxes[:, None], first.iterations)
        return filters, features[:, 0], *step.network.iou_net.modulate(shallow[:1], deep[:1], boxes[:1])


class _Track(nn.Module):
    def __init__(self, step: TrackStep) -> None:
        super().__init__()
        self.step = step

    def forward(self, pixels: Tensor, numbers: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        *model, shallow, deep, weights, count, newest = state
        target = TargetState(tuple(model), Modulation(shallow, deep), weights, count.long(), newest.long())
        tracked = self.step(target, pixels.float(), numbers)
        row, weights, count, newest = tracked.placement
        return (
            *(tracked.rows, tracked.score_maps, tracked.sample, tracked.box),
            *(row.int(), weights, count.int(), newest.int()),
        )


class _Learn(nn.Module):
    def __init__(self, step: TrackStep, most: int) -> None:
        super().__init__()
        self.step, self.most = step, most

    def forward(self, filters: Tensor, samples: Tensor, boxes: Tensor, weights: Tensor, iterations: Tensor) -> Tensor:
        # ATOM's projection stays as it is after the first frame.
        model = (filters,) if self.step.network.classifier is not None else (filters.new_zeros(1), filters)
        return self.step.learn(model, samples, boxes, weights, iterations.long(), self.most)[-1]


class _Cast(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)


def to_half(network: TrackerNetwork) -> TrackerNetwork:
    """Return a copy with trunk, fusion, extractor and IoU features in float16, for networks with folded batch norms.

    Target model, modulation, IoU and boxes stay in float32.
    """
    network = copy.deepcopy(network)
    network.trunks.half()
    network.fusions.half()
    parts = [network.iou_net.reference_level3, network.iou_net.reference_level4]
    parts += [network.iou_net.test_level3, network.iou_net.test_level4]
    if network.classifier is not None:
        parts.append(network.classifier.extractor)
    for part in parts:
        part.half().insert(0, _Cast(torch.float16)).append(_Cast(torch.float32))
    return network
