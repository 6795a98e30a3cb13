"""Writes a tracker as ONNX files: all of them, each checked with onnxruntime, or none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mmdistill.pair import Pair
from mmdistill.reference.export.graphs import Graph, graphs
from mmdistill.reference.export.quantization import write_errors, write_int8
from mmdistill.reference.export.runtime import (
    SimulatedInt8Graph,
    check_errors,
    import_optional,
    random_inputs,
    relative_errors,
    set_metadata,
    silence_warnings,
)
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.iou_net import STRIDES
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.settings_json import to_json
from mmdistill.reference.tracking.localization import FLAGS
from mmdistill.reference.tracking.settings import TrackingSettings, published_settings
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import atomic_path
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.sequence import Image

FORMAT = "mmdistill-onnx-1"

OPSET = 18
"""The opset that PyTorch's exporter writes without conversion."""

HELD_OUT_EVERY = 4
"""Every fourth crop measures int8's error instead of calibrating."""

QUANTIZED_GRAPHS = ("start", "track")
"""Graphs that compute features, and so differ between precisions."""

Precision = Literal["float32", "float16", "int8"]


class ExportedFile(NamedTuple):
    """A written ONNX file.

    Attributes:
        path: the file.
        summary: its function, in one line.
        errors: each output's largest difference to PyTorch in float32, relative to the largest value.
        saturated: for int8, the same on x86 processors without VNNI and without ``SATURATION_OPTION``.
    """

    path: Path
    summary: str
    errors: dict[str, float]
    saturated: dict[str, float] = {}  # noqa: RUF012  a NamedTuple's default, never changed


def write_files(
    network: TrackerNetwork,
    out: str | Path,
    precision: Precision = "float32",
    crops: Sequence[Pair[Image]] = (),
    *,
    slots: int = 1,
    settings: TrackingSettings | None = None,
    progress: bool = True,
) -> list[ExportedFile]:
    """Write a tracker as ONNX files ``start.onnx``, ``track.onnx`` and ``learn.onnx``.

    Args:
        network: any network; not changed.
        out: the files' folder.
        precision: of the features; everything else is float32.
        crops: for int8, at least ``HELD_OUT_EVERY`` pairs ``(crop_size, crop_size, 3)``. Every fourth measures the
            error, the others calibrate.
        slots: videos per call of ``track.onnx`` and ``learn.onnx``.
        settings: the constants of tracking; by default the published ones of the network's classifier.
        progress: whether to show a progress bar.

    Raises:
        DataError: a package is missing, there are too few crops, or a float32 file differs from the network. Nothing
            is written then.
    """
    onnx, out = import_optional("onnx"), Path(out)
    if precision == "int8" and len(crops) < HELD_OUT_EVERY:
        raise DataError(f"export: int8 needs at least {HELD_OUT_EVERY} crops for calibration, got {len(crops)}")
    settings = settings or published_settings(network.settings)
    originals = graphs(network, settings, slots)
    exported = graphs(network, settings, slots, half=True) if precision == "float16" else originals
    written = []
    with (
        ExitStack() as stack,
        progress_bar(len(originals), "exporting", "file", quiet=not progress) as bar,
    ):
        for original, graph in zip(originals, exported, strict=True):
            path = out / f"{graph.name}.onnx"
            temporary = stack.enter_context(atomic_path(path))
            used: Precision = precision if graph.name in QUANTIZED_GRAPHS else "float32"
            model = to_onnx(graph)
            about = metadata(graph, network.settings, settings, slots)
            set_metadata(model, about | {"precision": used})
            if used == "int8":
                calibration, held_out = _split(graph, crops)
                write_int8(model, calibration, temporary)
                errors = relative_errors(graph, temporary, held_out, graph.continuous)
                simulated = SimulatedInt8Graph(temporary, saturating=True)
                saturated = relative_errors(graph, simulated, held_out, graph.continuous)
                write_errors(temporary, errors, saturated)
                written.append(ExportedFile(path, graph.summary, errors, saturated))
            else:
                onnx.save(model, temporary)
                names = () if used == "float32" else graph.continuous
                errors = relative_errors(original, temporary, random_inputs(graph), names)
                if used == "float32":
                    check_errors(errors, original.max_error, path)
                written.append(ExportedFile(path, graph.summary, errors))
            bar.update()
    return written


def _split(graph: Graph, crops: Sequence[Pair[Image]]) -> tuple[list[tuple[Tensor, ...]], list[tuple[Tensor, ...]]]:
    """Return a graph's inputs for calibration, and those for measuring the error."""
    calibration = [crop for index, crop in enumerate(crops) if index % HELD_OUT_EVERY]
    return with_crops(graph, calibration), with_crops(graph, crops[::HELD_OUT_EVERY])


def with_crops(graph: Graph, crops: Sequence[Pair[Image]]) -> list[tuple[Tensor, ...]]:
    """Return a graph's inputs with all crops as pixels; the last one is filled up with the first crops."""
    count, modalities = graph.inputs[0].shape[:2]
    pixels = torch.from_numpy(np.stack([np.stack(crop[:modalities]) for crop in crops]))
    calls = -(-len(crops) // count)
    index = torch.arange(calls * count) % len(crops)
    return [(pixels[part], *graph.draw(seed)[1:]) for seed, part in enumerate(index.view(calls, count))]


def to_onnx(graph: Graph) -> Any:
    """Return an ``onnx.ModelProto`` of a graph, with weights and without metadata.

    Raises:
        DataError: a package is missing.
    """
    import_optional("onnx")
    import_optional("onnxscript")
    with silence_warnings(), torch.no_grad():
        program = torch.onnx.export(
            _Variadic(graph.module),
            graph.draw(seed=0),
            input_names=[node.name for node in graph.inputs],
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # positions in PyTorch's source: half of a small file
    return model


def metadata(graph: Graph, network: NetworkSettings, tracking: TrackingSettings, slots: int) -> dict[str, str]:
    """Return a file's metadata without its precision; values are text or JSON."""
    return {
        "format": FORMAT,
        "graph": graph.name,
        "summary": graph.summary,
        "inputs": json.dumps({node.name: node.meaning for node in graph.inputs}),
        "outputs": json.dumps(graph.outputs),
        "network": to_json(network),
        "tracking": to_json(tracking),
        "slots": str(slots),
        "crop_size": str(network.crop_size),
        "strides": json.dumps(STRIDES),
        "flags": json.dumps(FLAGS),
        "memory": str(tracking.learning.memory),
        "interval": str(tracking.learning.interval),
        "boxes": "x y w h; cell i of a map lies at stride * i crop pixels",
    }


class _Variadic(nn.Module):
    """A module with ``*inputs``, so that all modules are exported in the same way."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> object:
        return self.module(*inputs)
