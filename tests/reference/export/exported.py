"""Untrained networks with random batch norm statistics, and helpers to run and compare exported files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmdistill.reference.export.graphs import Graph
from mmdistill.reference.models.config import NetworkSettings, student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork

SIDE, WIDTH = 96, 4
STUDENT = student_settings(width=WIDTH, crop_size=SIDE)
NAMES = ("start", "track", "learn")
LIST = json.loads((Path(__file__).parent / "operators.json").read_text())

OPERATORS: Mapping[str, list[str]] = LIST["operators"]
"""The operators that runtimes have, and the types of their first input, or of ``Where``'s second."""

CONSTANT_INPUTS: list[str] = LIST["constant_inputs"]
"""Operators whose inputs after the first one must be constants."""


def need_exporter() -> None:
    """Skip the tests if files cannot be written or run."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    if torch.__version__ < "2.7":
        pytest.skip("the ONNX exporter of PyTorch 2.6 leaves too much open", allow_module_level=True)


def untrained(settings: NetworkSettings = STUDENT) -> TrackerNetwork:
    torch.manual_seed(0)
    network = TrackerNetwork(settings)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return network.eval()


def assert_rounding(got: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    assert got.shape == expected.shape
    assert (got.double() - expected.double()).abs().max() <= tolerance * expected.abs().max()


def unlisted_operators(model: Any) -> set[str]:
    """Return the operators, with types, that are not in ``operators.json``; inputs that must be constants too."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    graph, name_of = inferred.graph, onnx.TensorProto.DataType.Name
    constants = {held.name: held.data_type for held in graph.initializer}
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    kinds |= constants
    found = set()
    for node in graph.node:
        value = node.input[1 if node.op_type == "Where" else 0]
        kind = {"FLOAT": "float32"}.get(name_of(kinds[value]), name_of(kinds[value]).lower())
        if kind not in OPERATORS.get(node.op_type, []):
            found.add(f"{node.op_type} of {kind}")
        if node.op_type in CONSTANT_INPUTS and not {name for name in node.input[1:] if name} <= constants.keys():
            found.add(f"{node.op_type} with computed inputs")
    return found


def run_by_opencv(path: Path, graph: Graph, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    """Return a file's outputs, computed by OpenCV's dnn."""
    import cv2

    if not hasattr(cv2.dnn, "ENGINE_NEW"):
        pytest.skip("OpenCV before 5 has no engine for these files")
    net = cv2.dnn.readNetFromONNX(str(path), engine=cv2.dnn.ENGINE_NEW)
    for node, values in zip(graph.inputs, inputs, strict=True):
        net.setInput(values.numpy(), node.name)
    return list(net.forward(list(graph.outputs)))
