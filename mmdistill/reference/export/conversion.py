"""From a graph to an ONNX model that says itself what to feed it.

Keeping what exporters tell their own developers from the user.

The packages that only the export needs, asked for where they are used.
"""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mmdistill.reference.crops import DEVIATION, MEAN
from mmdistill.reference.export.graphs import Graph
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.iou_net import STRIDES
from mmdistill.reference.settings_json import to_json
from mmdistill.toolkit.data_issues import DataError


def import_extra(name: str) -> ModuleType:
    """Return a module of the ``export`` extra.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise DataError(
            f"export: {error.name} is not installed; pip install 'mmdistill[export]' brings what exporting needs"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back warnings, and log records below errors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


FORMAT = "mmdistill-onnx-1"

OPSET = 18
"""The first that knows Col2Im, which sums a filter's products into scores; the exporter's own."""

EXAMPLE = {"batch": 2, "frames": 5, "boxes": 7}
"""What the exporter sees; no two alike, lest it take one axis for another."""


def as_onnx(graph: Graph, settings: NetworkSettings) -> Any:
    """Return an ``onnx.ModelProto`` of a graph, open in its named axes, weights and metadata inside.

    Raises:
        DataError: a package is missing.
        RuntimeError: the exporter took an open axis to be of one length.
    """
    import_extra("onnx")
    import_extra("onnxscript")
    open_axes = tuple(
        {place: torch.export.Dim(axis, min=1, max=4096) for place, axis in enumerate(given.axes) if axis in EXAMPLE}
        for given in graph.inputs
    )
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            _InARow(graph.module),
            graph.draw(EXAMPLE, settings.crop_size, seed=0),
            input_names=[given.name for given in graph.inputs],
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
        del node.metadata_props[:]  # where in PyTorch's source it comes from: half of a small file
    set_metadata(model, metadata(graph, settings))
    return model


def metadata(graph: Graph, settings: NetworkSettings) -> dict[str, str]:
    """Return what a file says of itself."""
    return {
        "format": FORMAT,
        "graph": graph.name or "features",
        "summary": graph.summary,
        "network": to_json(settings),
        "crop_size": str(settings.crop_size),
        "strides": json.dumps(STRIDES),
        "images": "float32 RGB crops, (value / 255 - mean) / deviation per channel; TIR's one channel repeated",
        "mean": json.dumps(MEAN),
        "deviation": json.dumps(DEVIATION),
        "boxes": "x y w h in crop pixels; cell i of a map stands at stride * i",
        "precision": "float32",
    }


def set_metadata(model: Any, entries: Mapping[str, str]) -> None:
    """Replace a model's metadata."""
    del model.metadata_props[:]
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)


def _check_axes(graph: Graph, model: Any) -> None:
    """Refuse a model with other axes than the graph states: the exporter fixes an axis that it can't keep open."""
    for stated, given in zip(graph.inputs, model.graph.input, strict=True):
        axes = tuple(axis.dim_param or axis.dim_value for axis in given.type.tensor_type.shape.dim)
        if (stated.name, stated.axes) != (given.name, axes):
            raise RuntimeError(
                f"export: {graph.name or 'features'}: expected {stated.name} {stated.axes}, got {given.name} {axes}"
            )


class _InARow(nn.Module):
    """Any module as one of tensors in a row, so that the open axes are stated the same way for all."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> object:
        return self.module(*inputs)
