"""``mmdistill train ... --from``: going on from a trained network."""

from pathlib import Path

import pytest
import torch

from mmdistill.cli.main import main
from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network, save_network
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.toolkit.datasets.folder_sequence import write_sequence

VIDEO = SyntheticSettings(size=(160, 120), target_size=(20.0, 30.0), length=4)


@pytest.fixture
def start(tmp_path: Path) -> Path:
    for sequence in synthetic_sequences(2, seed=0, settings=VIDEO):
        write_sequence(sequence, tmp_path / "clips" / sequence.name)
    torch.manual_seed(5)
    save_network(tmp_path / "start.safetensors", TrackerNetwork(single_settings("rgb", width=4, crop_size=96)))
    return tmp_path / "start.safetensors"


def run(start: Path, *more: str) -> int:
    where = [f"--data={start.parent / 'clips'}", f"--out={start.parent / 'run'}", f"--from={start}", "--width=4"]
    return main(["train", "rgb", *where, "--training.batch-size=2", "--device=cpu", *more])


def test_training_goes_on_from_the_weights_given(start: Path) -> None:
    still = ["--training.freeze-trunk", "--training.freeze-bn-after=0"]
    assert run(start, "--crop-size=96", "--training.steps=1", *still) == 0
    before, after = (load_network(path).state_dict() for path in (start, start.parent / "run" / "network.safetensors"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not {name for name in moved if name.startswith("trunks") or "running" in name}
    # One step of Adam from there, not new random weights.
    assert all((before[name] - after[name]).abs().max() < 0.01 for name in moved)


def test_a_network_built_otherwise_is_refused(start: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(start, "--crop-size=128", "--training.steps=1") == 1
    assert "crop_size of" in capsys.readouterr().err
