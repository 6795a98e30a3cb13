"""Int8: the convolutions of trunk and classifier in 8 bits, their ranges learned from crops.

Weights get a scale per output channel, activations one per map (Jacob et al., Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018). What stands between those convolutions (ReLU,
pooling, the residual sums) stays in 8 bits; the fusion, whose products need more digits, and the normalization stay in
float32, as do inputs and outputs.

The crops that int8 learns its ranges from: like those that a tracker will see.
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
from mmdistill.reference.crops import crop_geometry, cut, to_tensor
from mmdistill.reference.export.conversion import import_extra, metadata, quiet, set_metadata
from mmdistill.reference.export.graphs import Graph
from mmdistill.reference.export.runtime import REMEDY
from mmdistill.reference.export.saturation import instructions
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.synthetic import synthetic_sequences
from mmdistill.reference.training.sampler import Sampler
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.folder_sequence import modality_folders
from mmdistill.toolkit.sequence import Image, fill_missing_modality
from mmdistill.toolkit.video import Frames, open_frames

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
            nodes_to_quantize=quantized_nodes(model),
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


def quantized_nodes(model: Any) -> list[str]:
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


SIDES = (0.25, 1.0)
"""The range of a crop's side, relative to the shorter side of its image."""


def calibration_crops(
    folder: str | Path | None, settings: NetworkSettings, count: int, *, seed: int = 0
) -> list[Pair[Tensor]]:
    """Return normalized crops, ``count`` pairs of ``(1, 3, crop_size, crop_size)``.

    Args:
        folder: of images, or of aligned pairs in two folders ``rgb`` and ``tir``; crops are cut anywhere in images
            spread evenly over it. None: search areas of synthetic video.
        settings: the network's.
        count: how many crops.
        seed: of where they are cut.

    Raises:
        DataError: no crop is asked for, or the folder is missing, holds no image, or one that can't be read.
    """
    if count < 1:
        raise DataError(f"calibration: expected at least one crop, got {count}")
    if folder is None:
        crops = _synthetic_crops(settings, count, seed)
    else:
        crops = _crops_of(_frames(Path(folder), settings), settings.crop_size, count, seed)
    return [Pair(*(to_tensor([image]).contiguous() for image in crop)) for crop in crops]


def _synthetic_crops(settings: NetworkSettings, count: int, seed: int) -> list[Pair[Image]]:
    sampler = Sampler(synthetic_sequences(count, seed=seed), settings.crop_size, settings.search_area, seed=seed)
    samples = (sampler.sample(number).test.images for number in range(count))
    return [Pair(images.rgb[0], images.tir[0]) for images in samples]


def _frames(folder: Path, settings: NetworkSettings) -> Frames:
    sides = modality_folders(folder) if folder.is_dir() else None
    if sides is not None:
        return open_frames(*sides)
    return open_frames(tir=folder) if settings.modality == "tir" else open_frames(rgb=folder)


def _crops_of(frames: Frames, size: int, count: int, seed: int) -> list[Pair[Image]]:
    generator = np.random.default_rng(seed)
    crops = []
    for index in np.linspace(0, len(frames) - 1, count).round().astype(int):
        images = fill_missing_modality(frames.frame(int(index)), where=f"calibration frame {index + 1}")
        extent = np.array(images.rgb.shape[1::-1])
        side = float(generator.uniform(*SIDES) * extent.min())
        geometry = crop_geometry(side / 2 + generator.random(2) * (extent - side), side, size)
        crops.append(Pair(*(cut(image, geometry) for image in images)))
    return crops
