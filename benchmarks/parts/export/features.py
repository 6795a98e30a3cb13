"""A network's features as an ONNX file, to compare precisions on features alone.

``mmdistill export`` writes whole frames; their features are no outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdistill import Pair
from mmdistill.reference.export.files import HELD_OUT_EVERY, OPSET
from mmdistill.reference.export.quantization import write_int8
from mmdistill.reference.export.runtime import import_optional, silence_warnings
from mmdistill.reference.models.folding import fold_batch_norms
from mmdistill.reference.models.tracker_network import TrackerNetwork

OUTPUTS = ("level3", "level4", "classification")


class Features(nn.Module):
    """From images ``(B, 3, H, W)``, one per modality, to ``OUTPUTS``.

    Args:
        network: a network with DiMP's classifier; a copy with folded batch norms is used.
    """

    def __init__(self, network: TrackerNetwork) -> None:
        super().__init__()
        self.network = fold_batch_norms(network)

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Return fused levels 3 and 4, and classification features."""
        assert self.network.classifier is not None
        fused = self.network.extract(Pair(images[0], images[-1])).fused
        return *fused, self.network.classifier.features(fused[-1][None])[0]


class _Variadic(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *images: Tensor) -> object:
        return self.module(*images)


def write_features(network: TrackerNetwork, path: Path, crops: Sequence[Pair[Tensor]] = ()) -> None:
    """Write the features of a network, with any number of images per call.

    Args:
        network: a network with DiMP's classifier.
        path: the file.
        crops: for int8, normalized pairs ``(1, 3, H, W)``, of which every fourth is left out, as in an export; without
            crops, the file is float32.
    """
    side = network.settings.crop_size
    images = (torch.zeros(2, 3, side, side),) * count_inputs(network)
    with silence_warnings(), torch.no_grad():
        program: Any = torch.onnx.export(
            _Variadic(Features(network)),
            images,
            input_names=[f"image{index}" for index in range(len(images))],
            output_names=list(OUTPUTS),
            dynamic_shapes=(tuple({0: torch.export.Dim("batch", min=1, max=4096)} for _ in images),),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    model = program.model_proto
    if crops:
        calibration = [select_images(network, crop) for index, crop in enumerate(crops) if index % HELD_OUT_EVERY]
        write_int8(model, calibration, path)
    else:
        import_optional("onnx").save(model, path)


def count_inputs(network: TrackerNetwork) -> int:
    """Return the number of modalities that a network reads."""
    return 2 if network.settings.modality == "rgbt" else 1


def select_images(network: TrackerNetwork, images: Pair[Tensor]) -> tuple[Tensor, ...]:
    """Return the images that a network reads."""
    modality = network.settings.modality
    return tuple(images) if modality == "rgbt" else (getattr(images, modality),)
