"""Writing a network's files: all of them, each checked by onnxruntime, or none."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.export.conversion import as_onnx, import_extra
from mmdistill.reference.export.graphs import Graph, graphs
from mmdistill.reference.export.quantization import write_errors, write_int8
from mmdistill.reference.export.runtime import check, largest_errors, random_inputs
from mmdistill.reference.export.saturation import Int8Graph
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import atomic_path

Precision = Literal["float32", "int8"]

HELD_OUT = 4
"""Every fourth crop measures int8 instead of calibrating it."""


class Written(NamedTuple):
    """One file.

    Attributes:
        path: where it is.
        summary: what it computes.
        errors: for each output the largest difference to PyTorch in float32, relative to the largest value.
        saturated: for int8, the same on x86 processors without VNNI and without onnxruntime's remedy.
    """

    path: Path
    summary: str
    errors: dict[str, float]
    saturated: dict[str, float] = {}  # noqa: RUF012  a NamedTuple's default, never changed


def write_files(
    network: TrackerNetwork, out: str | Path, precision: Precision = "float32", crops: Sequence[Pair[Tensor]] = ()
) -> list[Written]:
    """Write a network as ONNX files: ``out`` for the features, beside it one for each of the other graphs.

    Args:
        network: any; it is left as it is.
        out: the features' file, such as ``model.onnx``; the others are ``model.scores.onnx`` and so on.
        precision: of the features; all else is float32.
        crops: for int8, at least ``HELD_OUT``: normalized pairs ``(1, 3, crop_size, crop_size)``; most calibrate,
            every fourth is what the error is measured on.

    Raises:
        DataError: a package is missing, the suffix is not ``.onnx``, there are too few crops, or a float32 file does
            not compute what the network computes; nothing is written then.
    """
    onnx, out = import_extra("onnx"), Path(out)
    if out.suffix != ".onnx":
        raise DataError(f"{out}: expected a name that ends in .onnx")
    if precision == "int8" and len(crops) < HELD_OUT:
        raise DataError(f"export: int8 takes at least {HELD_OUT} crops to calibrate on, got {len(crops)}")
    settings, written = network.settings, []
    with ExitStack() as stack:
        for graph in graphs(network):
            path = file_of(out, graph)
            temporary = stack.enter_context(atomic_path(path))
            model = as_onnx(graph, settings)
            if precision == "int8" and not graph.name:
                inputs = [_images(graph, crop) for crop in crops]
                kept = [crop for number, crop in enumerate(inputs) if number % HELD_OUT]
                write_int8(model, graph, settings, kept, temporary)
                held_out = inputs[::HELD_OUT]
                errors = largest_errors(graph, temporary, held_out)
                saturated = largest_errors(graph, Int8Graph(temporary, saturating=True), held_out)
                write_errors(temporary, errors, saturated)
                written.append(Written(path, graph.summary, errors, saturated))
            else:
                onnx.save(model, temporary)
                errors = largest_errors(graph, temporary, random_inputs(graph, settings.crop_size))
                check(errors, path)
                written.append(Written(path, graph.summary, errors))
    return written


def file_of(out: Path, graph: Graph) -> Path:
    """Return a graph's file beside the features'."""
    return out.with_suffix(f".{graph.name}.onnx") if graph.name else out


def _images(graph: Graph, crop: Pair[Tensor]) -> tuple[Tensor, ...]:
    """Return what the features' graph sees of a pair."""
    return tuple(getattr(crop, given.name) for given in graph.inputs)
