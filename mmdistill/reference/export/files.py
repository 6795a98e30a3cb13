"""Writes a network as ONNX files: all of them, each checked with onnxruntime, or none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mmdistill.pair import Pair
from mmdistill.reference.crops import IMAGENET_MEAN, IMAGENET_STD
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
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import atomic_path

FORMAT = "mmdistill-onnx-1"

OPSET = 18
"""The opset that PyTorch's exporter writes without conversion."""

EXAMPLE_SIZES = {"batch": 2, "frames": 5, "boxes": 7}
"""Lengths of open axes in the exporter's example. All differ, so that it does not merge axes."""

HELD_OUT_EVERY = 4
"""Every fourth crop measures int8's error instead of calibrating."""

Precision = Literal["float32", "int8"]


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
    network: TrackerNetwork, out: str | Path, precision: Precision = "float32", crops: Sequence[Pair[Tensor]] = ()
) -> list[ExportedFile]:
    """Write a network as ONNX files: ``out`` for the features, and one file beside it for each other graph.

    Args:
        network: any network; not changed.
        out: the features' file, for example ``model.onnx``; the others become ``model.scores.onnx`` and so on.
        precision: of the features; the other files are float32.
        crops: for int8, at least ``HELD_OUT_EVERY`` normalized pairs ``(1, 3, crop_size, crop_size)``. Every fourth
            measures the error, the others calibrate.

    Raises:
        DataError: a package is missing, the suffix is not ``.onnx``, there are too few crops, or a float32 file
            differs from the network. Nothing is written then.
    """
    onnx, out = import_optional("onnx"), Path(out)
    if out.suffix != ".onnx":
        raise DataError(f"{out}: expected a name that ends in .onnx")
    if precision == "int8" and len(crops) < HELD_OUT_EVERY:
        raise DataError(f"export: int8 needs at least {HELD_OUT_EVERY} crops for calibration, got {len(crops)}")
    settings, written = network.settings, []
    with ExitStack() as stack:
        for graph in graphs(network):
            path = file_of(out, graph)
            temporary = stack.enter_context(atomic_path(path))
            model = to_onnx(graph, settings)
            if precision == "int8" and not graph.name:
                inputs = [_images(graph, crop) for crop in crops]
                calibration = [images for index, images in enumerate(inputs) if index % HELD_OUT_EVERY]
                write_int8(model, calibration, temporary)
                held_out = inputs[::HELD_OUT_EVERY]
                errors = relative_errors(graph, temporary, held_out)
                saturated = relative_errors(graph, SimulatedInt8Graph(temporary, saturating=True), held_out)
                write_errors(temporary, errors, saturated)
                written.append(ExportedFile(path, graph.summary, errors, saturated))
            else:
                onnx.save(model, temporary)
                errors = relative_errors(graph, temporary, random_inputs(graph, settings.crop_size))
                check_errors(errors, path)
                written.append(ExportedFile(path, graph.summary, errors))
    return written


def file_of(out: Path, graph: Graph) -> Path:
    """Return a graph's file beside the features' file."""
    return out.with_suffix(f".{graph.name}.onnx") if graph.name else out


def _images(graph: Graph, crop: Pair[Tensor]) -> tuple[Tensor, ...]:
    """Return the images of a pair that are inputs of the features' graph."""
    return tuple(getattr(crop, node.name) for node in graph.inputs)


def to_onnx(graph: Graph, settings: NetworkSettings) -> Any:
    """Return an ``onnx.ModelProto`` of a graph, with open axes, weights and metadata.

    Raises:
        DataError: a package is missing.
        RuntimeError: the exporter fixed the length of an open axis.
    """
    import_optional("onnx")
    import_optional("onnxscript")
    open_axes = tuple(
        {
            index: torch.export.Dim(axis, min=1, max=4096)
            for index, axis in enumerate(node.axes)
            if axis in EXAMPLE_SIZES
        }
        for node in graph.inputs
    )
    with silence_warnings(), torch.no_grad():
        program = torch.onnx.export(
            _Variadic(graph.module),
            graph.draw(EXAMPLE_SIZES, settings.crop_size, seed=0),
            input_names=[node.name for node in graph.inputs],
            output_names=list(graph.outputs),
            dynamic_shapes=(open_axes,),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _check_axes(graph, model)
    for node in model.graph.node:
        del node.metadata_props[:]  # positions in PyTorch's source: half of a small file
    set_metadata(model, metadata(graph, settings))
    return model


def metadata(graph: Graph, settings: NetworkSettings) -> dict[str, str]:
    """Return a float32 file's metadata."""
    return {
        "format": FORMAT,
        "graph": graph.name or "features",
        "summary": graph.summary,
        "network": to_json(settings),
        "crop_size": str(settings.crop_size),
        "strides": json.dumps(STRIDES),
        "images": "float32 RGB crops, (value / 255 - mean) / deviation per channel; TIR's one channel repeated",
        "mean": json.dumps(IMAGENET_MEAN),
        "deviation": json.dumps(IMAGENET_STD),
        "boxes": "x y w h in crop pixels; cell i of a map stands at stride * i",
        "precision": "float32",
    }


def _check_axes(graph: Graph, model: Any) -> None:
    """Refuse a model whose axes differ from the graph's; the exporter fixes an axis that it can't keep open."""
    for expected, node in zip(graph.inputs, model.graph.input, strict=True):
        axes = tuple(axis.dim_param or axis.dim_value for axis in node.type.tensor_type.shape.dim)
        if (expected.name, expected.axes) != (node.name, axes):
            raise RuntimeError(
                f"export: {graph.name or 'features'}: expected {expected.name} {expected.axes}, got {node.name} {axes}"
            )


class _Variadic(nn.Module):
    """A module with ``*inputs``, so that open axes are stated in the same way for all modules."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> object:
        return self.module(*inputs)
