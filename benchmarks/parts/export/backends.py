"""Feature backends of a tracker: PyTorch or onnxruntime in several precisions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from parts.export.features import Features, select_images, write_features
from torch import Tensor, nn

from mmdistill import Pair
from mmdistill.fusion import one_path
from mmdistill.reference.export.runtime import OnnxGraph
from mmdistill.reference.models.dimp_classifier import TargetClassifier
from mmdistill.reference.models.tracker_network import ExtractedFeatures, TrackerNetwork

Backend = Callable[[Pair[Tensor]], Sequence[Tensor]]
"""Maps normalized images to fused levels 3 and 4 and classification features; unused modalities are ignored."""

BASE = "PyTorch float32"


def backends(network: TrackerNetwork, crops: Sequence[Pair[Tensor]]) -> dict[str, Backend]:
    """Return the backends by name.

    Args:
        network: a network of any modality with DiMP's classifier; it is not changed.
        crops: calibration crops for int8, normalized pairs ``(1, 3, crop_size, crop_size)``.
    """
    return {
        BASE: by_pytorch(network),
        "PyTorch bfloat16": by_pytorch(network, torch.bfloat16),
        "onnxruntime float32": by_onnxruntime(network),
        "onnxruntime int8": by_onnxruntime(network, crops),
    }


def by_pytorch(network: TrackerNetwork, autocast: torch.dtype | None = None) -> Backend:
    """Return a PyTorch backend with folded batch norm; its outputs are float32."""
    module = Features(network)

    def run(images: Pair[Tensor]) -> Sequence[Tensor]:
        with torch.inference_mode(), torch.autocast("cpu", autocast, enabled=autocast is not None):
            return [features.float() for features in module(*select_images(network, images))]

    return run


def by_onnxruntime(network: TrackerNetwork, crops: Sequence[Pair[Tensor]] = ()) -> Backend:
    """Return an onnxruntime backend with one thread; with crops in int8, calibrated on them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.onnx"
        write_features(network, path, crops)
        session = OnnxGraph(path, threads=1)
    return lambda images: session(*select_images(network, images))


class BackendNetwork(TrackerNetwork):
    """A copy of a network whose features come from a backend.

    Args:
        network: a network with DiMP's classifier.
        backend: a backend of that network.
    """

    classifier: TargetClassifier

    def __init__(self, network: TrackerNetwork, backend: Backend) -> None:
        super().__init__(network.settings)
        self.load_state_dict(network.state_dict())
        self.eval()
        self.backend = backend
        self.classifier.extractor = nn.Sequential(_StoredFeatures())

    def extract(self, images: Pair[Tensor]) -> ExtractedFeatures:
        """Return the backend's fused levels, and store its classification features for the classifier."""
        level3, level4, classification = self.backend(images)
        (stored,) = self.classifier.extractor
        stored.classification = classification
        return ExtractedFeatures(Pair([], []), [level3, level4], [one_path(level3), one_path(level4)])


class _StoredFeatures(nn.Module):
    """Replaces the classification convolutions by the backend's stored features."""

    classification: Tensor

    def forward(self, level4: Tensor) -> Tensor:
        if len(level4) != len(self.classification):
            raise RuntimeError(f"expected the {len(self.classification)} images last extracted, got {len(level4)}")
        return self.classification
