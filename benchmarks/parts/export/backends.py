"""What computes a tracker's features: PyTorch or onnxruntime, in several precisions, and a network that lets them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mmdistill import Pair
from mmdistill.fusion import one_path
from mmdistill.reference.export.files import Precision, write_files
from mmdistill.reference.export.graphs import features_graph
from mmdistill.reference.export.runtime import OnnxGraph
from mmdistill.reference.models.dimp_classifier import TargetClassifier
from mmdistill.reference.models.folding import fold_batch_norms
from mmdistill.reference.models.tracker_network import ExtractedFeatures, TrackerNetwork

Backend = Callable[[Pair[Tensor]], Sequence[Tensor]]
"""From normalized images to fused levels 3 and 4 and classification features; a single modality's other is not read."""

BASE = "PyTorch float32"


def backends(network: TrackerNetwork, crops: Sequence[Pair[Tensor]]) -> dict[str, Backend]:
    """Return each contestant by name.

    Args:
        network: of any modality, with DiMP's classifier; it is left as it is.
        crops: what int8 is calibrated on, normalized pairs ``(1, 3, crop_size, crop_size)``.
    """
    return {
        BASE: by_pytorch(network),
        "PyTorch bfloat16": by_pytorch(network, torch.bfloat16),
        "onnxruntime float32": by_onnxruntime(network, "float32"),
        "onnxruntime int8": by_onnxruntime(network, "int8", crops),
    }


def by_pytorch(network: TrackerNetwork, autocast: torch.dtype | None = None) -> Backend:
    """Return features by PyTorch, batch norm folded; as float32 again where autocast made them shorter."""
    graph = features_graph(fold_batch_norms(network))

    def run(images: Pair[Tensor]) -> Sequence[Tensor]:
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            return [features.float() for features in graph.run(*_seen(network, images))]

    return run


def by_onnxruntime(network: TrackerNetwork, precision: Precision, crops: Sequence[Pair[Tensor]] = ()) -> Backend:
    """Return features by onnxruntime, one thread; int8 is calibrated on the crops."""
    with tempfile.TemporaryDirectory() as folder:
        written = write_files(network, Path(folder) / "model.onnx", precision, crops)
        session = OnnxGraph(written[0].path, threads=1)
    return lambda images: session(*_seen(network, images))


def _seen(network: TrackerNetwork, images: Pair[Tensor]) -> Sequence[Tensor]:
    modality = network.settings.modality
    return images if modality == "rgbt" else [getattr(images, modality)]


class FeaturesBy(TrackerNetwork):
    """A network whose features a backend computes; what learns, scores and refines is the network's own.

    Args:
        network: with DiMP's classifier; this is a copy.
        backend: of that network.
    """

    classifier: TargetClassifier

    def __init__(self, network: TrackerNetwork, backend: Backend) -> None:
        super().__init__(network.settings)
        self.load_state_dict(network.state_dict())
        self.eval()
        self.backend = backend
        self.classifier.extractor = nn.Sequential(_Handover())

    def extract(self, images: Pair[Tensor]) -> ExtractedFeatures:
        """Return the backend's fused levels; its classification features wait for the classifier to ask for them."""
        level3, level4, classification = self.backend(images)
        (handover,) = self.classifier.extractor
        handover.classification = classification
        return ExtractedFeatures(Pair([], []), [level3, level4], [one_path(level3), one_path(level4)])


class _Handover(nn.Module):
    """In the place of the convolutions from level 4 to classification features: those the backend has computed."""

    classification: Tensor

    def forward(self, level4: Tensor) -> Tensor:
        if len(level4) != len(self.classification):
            raise RuntimeError(f"expected the {len(self.classification)} images last extracted, got {len(level4)}")
        return self.classification
