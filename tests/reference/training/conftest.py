"""Small networks and little data: enough to train for a few steps in a test."""

from pathlib import Path

import pytest
import torch
from pair_folders import write_pairs
from training_helpers import load_batches

from mmdistill.reference.models.config import student_settings, teacher_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import SampleSettings


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    settings = SyntheticSettings(size=(160, 120), target_size=(20.0, 30.0), length=8)
    return Sampler(
        synthetic_sequences(3, seed=0, settings=settings), 96, 5.0, SampleSettings(train_frames=2, test_frames=2)
    )


@pytest.fixture
def batch(sampler: Sampler) -> Batch:
    return next(load_batches(sampler, 2))


@pytest.fixture
def student() -> TrackerNetwork:
    torch.manual_seed(1)
    return TrackerNetwork(student_settings(width=4, crop_size=96))


@pytest.fixture
def teacher() -> TrackerNetwork:
    torch.manual_seed(2)
    return TrackerNetwork(teacher_settings(depth=18, width=6, crop_size=96))


@pytest.fixture(scope="session")
def noisy_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four aligned pairs of 160 x 120."""
    return write_pairs(tmp_path_factory.mktemp("pairs"), 4, size=(160, 120))
