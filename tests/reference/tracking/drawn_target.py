"""A target that moves over noise, drawn frame by frame, and an untrained network to track it with."""

from __future__ import annotations

import numpy as np
import torch

from mmdistill import Pair
from mmdistill.reference.models.config import NetworkSettings, student_settings
from mmdistill.reference.models.dimp_classifier import TargetClassifier
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.tracking.settings import LocalizationSettings, TrackingSettings
from mmdistill.reference.tracking.tracker import Tracker

WIDTH, HEIGHT, LENGTH = 120, 90, 8
# An untrained network's scores are low; all of them count here.
SETTINGS = TrackingSettings(localization=LocalizationSettings(not_found=-9.0))
NETWORK = student_settings(width=4, crop_size=80)


def truth(index: int) -> np.ndarray:
    return np.array([30.0 + 5 * index, 40 - 2 * index, 20, 16])


def frame(index: int) -> Pair[np.ndarray]:
    """A bright checkered box on a dim noisy ground."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 60, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    x, y, w, h = truth(index).astype(int)
    images[:, y : y + h, x : x + w] = 140
    images[:, y + 2 : y + h - 2 : 4, x + 2 : x + w - 2] = 255
    return Pair(*images)


def network(settings: NetworkSettings = NETWORK) -> TrackerNetwork:
    torch.manual_seed(5)  # tracks well enough that all flags occur
    return TrackerNetwork(settings)


def classifier_of(tracker: Tracker) -> TargetClassifier:
    """What scores in a tracker: part of its own copy of the network."""
    classifier = tracker._batch.network.classifier
    assert classifier is not None
    return classifier
