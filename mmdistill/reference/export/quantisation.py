"""Int8: the convolutions of trunk and classifier in 8 bits, their ranges learned from crops.

Weights get a scale per output channel, activations one per map (Jacob et al., Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018). What stands between those convolutions (ReLU,
pooling, the residual sums) stays in 8 bits; the fusion, whose products need more digits, and the normalisation stay in
float32, as do inputs and outputs.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mmdistill.reference.export.conversion import metadata, set_metadata
from mmdistill.reference.export.extra import import_extra
from mmdistill.reference.export.graphs import Graph
from mmdistill.reference.export.quiet import quiet
from mmdistill.reference.export.saturation import instructions
from mmdistill.reference.export.session import REMEDY
from mmdistill.reference.networks.settings import NetworkSettings

PARTS = (".trunks.", ".extractor.")
"""Which weights become int8, by what their names contain."""

FOLLOWERS = ("Relu", "Add", "MaxPool")
"""What stays in 8 bits behind a convolution that is."""


def write_int8(
    model: Any, graph: Graph, settings: NetworkSettings, crops: Iterable[tuple[Tensor, ...]], path: Path
) -> None:
    """Write a features model in int8.

    Args:
        model: of the features in float32, an ``onnx.ModelProto``.
        graph: what it was made of.
        settings: the network's.
        crops: what the graph takes, one batch at a time; the ranges are those of its activations on them.
        path: the file.
    """
    onnx, quantization = import_extra("onnx"), import_extra("onnxruntime.quantization")
    with quiet(), tempfile.TemporaryDirectory() as folder:
        # From a file: some versions of onnxruntime lose the weights of a model in memory.
        source = Path(folder) / "float32.onnx"
        onnx.save(model, source)
        quantization.quantize_static(
            source,
            path,
            _Reader([given.name for given in graph.inputs], crops),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            # Unsigned against signed: the pair that processors multiply at once.
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["Conv", *FOLLOWERS],
            nodes_to_quantize=quantised_nodes(model),
        )
    written = onnx.load(path)
    set_metadata(written, metadata(graph, settings) | {"precision": "int8"})
    onnx.save(written, path)


def write_errors(path: Path, exact: Mapping[str, float], saturated: Mapping[str, float]) -> None:
    """Add to an int8 file's metadata how far it is from float32, on which processors, and the remedy.

    Args:
        path: the file.
        exact: for each output the error where products are summed in 32 bits.
        saturated: the error where sums of two products are cut to 16 bits.
    """
    onnx = import_extra("onnx")
    model = onnx.load(path)
    kept = {entry.key: entry.value for entry in model.metadata_props}
    errors = {
        "int8_errors": json.dumps({"exact": exact, "saturated": saturated}),
        "int8_errors_are": "the largest difference to float32 of each output, relative to its largest value",
        "int8_exact_on": "x86 processors with VNNI, other processors, and all with int8_remedy",
        "int8_saturated_on": "x86 processors with AVX2 or AVX-512 but without VNNI",
        "int8_remedy": f"onnxruntime session option {REMEDY}; slower, without effect on processors with VNNI",
        "int8_measured_on": f"a processor with {instructions()}; saturated: computed with cut sums",
    }
    set_metadata(model, kept | errors)
    onnx.save(model, path)


def quantised_nodes(model: Any) -> list[str]:
    """Return the names of the nodes that become int8: convolutions of ``PARTS`` and what follows them."""
    names, outputs = [], set[str]()
    for node in model.graph.node:
        chosen = node.op_type == "Conv" and any(part in node.input[1] for part in PARTS)
        if chosen or (node.op_type in FOLLOWERS and outputs.intersection(node.input)):
            names.append(node.name)
            outputs.update(node.output)
    return names


class _Reader:
    """What onnxruntime asks for one batch after another."""

    def __init__(self, names: list[str], crops: Iterable[tuple[Tensor, ...]]) -> None:
        self._names = names
        self._crops: Iterator[tuple[Tensor, ...]] = iter(crops)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        crop = next(self._crops, None)
        if crop is None:
            return None
        return {name: image.numpy() for name, image in zip(self._names, crop, strict=True)}
