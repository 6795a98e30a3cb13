"""Int8 quantization of a file, and the crops that calibrate it.

The convolutions of trunk and extractor become int8. Weights get a scale per output channel, activations one per map
(Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018,
https://arxiv.org/abs/1712.05877). ReLU, pooling and residual sums between them stay in 8 bits. Inputs, outputs,
normalization and fusion stay in float32; the fusion's products need more digits.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.crops import crop_geometry, cut
from mmdistill.reference.export.runtime import (
    SATURATION_OPTION,
    cpu_instructions,
    import_optional,
    set_metadata,
    silence_warnings,
)
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.synthetic import synthetic_sequences
from mmdistill.reference.training.sampler import Sampler
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.folder_sequence import modality_folders
from mmdistill.toolkit.sequence import Image, fill_missing_modality
from mmdistill.toolkit.video import Frames, open_frames

INT8_WEIGHTS = (".trunks.", ".extractor.")
"""Parts of the names of weights that become int8."""

INT8_FOLLOWERS = ("Relu", "Add", "MaxPool")
"""Operators that stay in 8 bits after an int8 convolution."""

CROP_SIDES = (0.25, 1.0)
"""Range of a calibration crop's side, relative to the shorter side of its image."""


def write_int8(model: Any, inputs: Iterable[tuple[Tensor, ...]], path: Path) -> None:
    """Write a model in int8.

    Args:
        model: in float32, an ``onnx.ModelProto``.
        inputs: of the model; the activations on them give the ranges.
        path: the file.
    """
    onnx, quantization = import_optional("onnx"), import_optional("onnxruntime.quantization")
    with silence_warnings(), tempfile.TemporaryDirectory() as folder:
        # From a file: some versions of onnxruntime lose the weights of a model in memory.
        source = Path(folder) / "float32.onnx"
        onnx.save(model, source)
        quantization.quantize_static(
            source,
            path,
            _InputReader([node.name for node in model.graph.input], inputs),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            # Unsigned and signed: processors have instructions for this pair.
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["Conv", *INT8_FOLLOWERS],
            nodes_to_quantize=quantized_nodes(model),
        )
    written = onnx.load(path)
    set_metadata(written, _metadata(model))
    onnx.save(written, path)


def write_errors(path: Path, exact: Mapping[str, float], saturated: Mapping[str, float]) -> None:
    """Add an int8 file's errors to its metadata, with the processors they apply to and the remedy.

    Args:
        path: the file.
        exact: each output's error if products are summed in 32 bits.
        saturated: each output's error if sums of two products are cut to 16 bits.
    """
    onnx = import_optional("onnx")
    model = onnx.load(path)
    errors = {
        "int8_errors": json.dumps({"exact": exact, "saturated": saturated}),
        "int8_errors_are": "the largest difference to float32 of each output, relative to its largest value",
        "int8_exact_on": "x86 processors with VNNI, other processors, and all with int8_remedy",
        "int8_saturated_on": "x86 processors with AVX2 or AVX-512 but without VNNI",
        "int8_remedy": f"onnxruntime session option {SATURATION_OPTION}; slower, no effect on processors with VNNI",
        "int8_measured_on": f"a processor with {cpu_instructions()}; saturated: computed with cut sums",
    }
    set_metadata(model, _metadata(model) | errors)
    onnx.save(model, path)


def _metadata(model: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def quantized_nodes(model: Any) -> list[str]:
    """Return the names of nodes that become int8: convolutions of ``INT8_WEIGHTS`` and their followers."""
    names, outputs = [], set[str]()
    for node in model.graph.node:
        chosen = node.op_type == "Conv" and any(part in node.input[1] for part in INT8_WEIGHTS)
        if chosen or (node.op_type in INT8_FOLLOWERS and outputs.intersection(node.input)):
            names.append(node.name)
            outputs.update(node.output)
    return names


class _InputReader:
    """An onnxruntime calibration reader: returns one set of inputs after another, then None."""

    def __init__(self, names: list[str], inputs: Iterable[tuple[Tensor, ...]]) -> None:
        self._names = names
        self._inputs: Iterator[tuple[Tensor, ...]] = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        values = next(self._inputs, None)
        return None if values is None else {name: x.numpy() for name, x in zip(self._names, values, strict=True)}


def calibration_crops(
    folder: str | Path | None, settings: NetworkSettings, count: int, *, seed: int = 0
) -> list[Pair[Image]]:
    """Return crops, ``count`` pairs of ``(crop_size, crop_size, 3)``.

    Args:
        folder: images, or aligned pairs in two folders ``rgb`` and ``tir``. Crops are cut at random positions from
            images spread evenly over it. None: search areas of synthetic video.
        settings: of the network.
        count: number of crops.
        seed: of the positions.

    Raises:
        DataError: ``count`` is below 1; or the folder is missing, has no images, or an unreadable one.
    """
    if count < 1:
        raise DataError(f"calibration: expected at least one crop, got {count}")
    if folder is None:
        return _synthetic_crops(settings, count, seed)
    return _cut_crops(_open_folder(Path(folder), settings), settings.crop_size, count, seed)


def _synthetic_crops(settings: NetworkSettings, count: int, seed: int) -> list[Pair[Image]]:
    sampler = Sampler(synthetic_sequences(count, seed=seed), settings.crop_size, settings.search_area, seed=seed)
    samples = (sampler.sample(number).test.images for number in range(count))
    return [Pair(images.rgb[0], images.tir[0]) for images in samples]


def _open_folder(folder: Path, settings: NetworkSettings) -> Frames:
    sides = modality_folders(folder) if folder.is_dir() else None
    if sides is not None:
        return open_frames(*sides)
    return open_frames(tir=folder) if settings.modality == "tir" else open_frames(rgb=folder)


def _cut_crops(frames: Frames, size: int, count: int, seed: int) -> list[Pair[Image]]:
    generator = np.random.default_rng(seed)
    crops = []
    for index in np.linspace(0, len(frames) - 1, count).round().astype(int):
        images = fill_missing_modality(frames.frame(int(index)), where=f"calibration frame {index + 1}")
        extent = np.array(images.rgb.shape[1::-1])
        side = float(generator.uniform(*CROP_SIDES) * extent.min())
        geometry = crop_geometry(side / 2 + generator.random(2) * (extent - side), side, size)
        crops.append(Pair(*(cut(image, geometry) for image in images)))
    return crops
