"""What the tests of several commands share."""

from pathlib import Path

import pytest
import torch
from command_line import NAMES

from mmdistill.reference.models.config import student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import save_network
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.toolkit.box_files import write_boxes
from mmdistill.toolkit.datasets.folder_sequence import write_sequence
from mmdistill.toolkit.images import write_image


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small student."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "network.safetensors"
    save_network(path, TrackerNetwork(student_settings(width=4, crop_size=96)))
    return path


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two labeled sequences of 4 frames."""
    video = SyntheticSettings(size=(160, 120), target_size=(20.0, 30.0), length=4)
    for sequence in synthetic_sequences(2, seed=0, settings=video):
        write_sequence(sequence, tmp_path / "clips" / sequence.name)
    return tmp_path / "clips"


@pytest.fixture
def clip(clips: Path) -> Path:
    return clips / "synthetic_0000"


@pytest.fixture
def rgbt234(tmp_path: Path) -> Path:
    """Two sequences as in RGBT234."""
    video = SyntheticSettings(size=(120, 90), target_size=(16.0, 24.0), length=3)
    for name, sequence in zip(NAMES, synthetic_sequences(2, seed=0, settings=video), strict=True):
        folder = tmp_path / "RGBT234" / name
        for index in range(len(sequence)):
            for side, image in zip(("visible", "infrared"), sequence.frame(index), strict=True):
                assert image is not None
                write_image(folder / side / f"{index + 1:05d}{side[0]}.png", image)
        for file in ("visible", "infrared", "init"):
            write_boxes(folder / f"{file}.txt", sequence.boxes, decimals=0)
    return tmp_path / "RGBT234"
