"""``mmdistill convert``."""

from pathlib import Path

import checkpoints
import numpy as np
import pytest
import torch
from command_line import fails, run
from torch import Tensor

from mmdistill.reference.importing.trunks import read_trunk
from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.tracking.tracker import ReferenceTracker
from mmdistill.toolkit.data_issues import DataError


def published(depth: int = 18) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = TrackerNetwork(single_settings("rgb", depth, width=4))  # type: ignore[arg-type]
    return dict(checkpoints.random_state(checkpoints.published_layout(network)))


@pytest.fixture
def dimp(tmp_path: Path) -> Path:
    extra = {"feature_extractor.fc.bias": torch.zeros(9), "feature_extractor.layer4.0.bn1.bias": torch.zeros(9)}
    checkpoints.save_tracker(tmp_path / "dimp18.pth", published() | extra)
    return tmp_path / "dimp18.pth"


@pytest.fixture
def resnet(tmp_path: Path) -> Path:
    trunk = {name.removeprefix("feature_extractor."): value for name, value in published().items()}
    trunk = {name: value for name, value in trunk.items() if not name.startswith(("classifier", "bb_regressor"))}
    checkpoints.save(tmp_path / "resnet18.pth", trunk | {"fc.bias": torch.zeros(9)}, stream=True)
    return tmp_path / "resnet18.pth"


@pytest.mark.parametrize("modality", ["rgb", "tir"])
def test_a_converted_tracker_tracks(
    dimp: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], modality: str
) -> None:
    out = tmp_path / "made" / "dimp18.safetensors"
    assert run("convert", dimp, "--out", out, "--modality", modality) == 0
    summary, sizes, passed, last = capsys.readouterr().out.splitlines()
    assert f"{dimp}: DiMP with ResNet-18 for {modality.upper()}, " in summary
    assert "left out layer4 and fc, which trackers do not use (2 entries)" in summary
    stated = "filter 4 cells (constructor.kwds.filter_size)"
    assert sizes == f"crop 288 px (default), search area 5 (default), {stated}, refinement steps 5 (default)"
    assert passed.startswith("not run: ")
    assert checkpoints.FOREIGN in passed
    assert last == str(out)
    network = load_network(out)
    assert network.settings.modality == modality
    video = synthetic_sequences(1, seed=0, settings=SyntheticSettings(size=(160, 120), length=3))[0]
    tracker = ReferenceTracker(network)
    tracker.init(video.frame(0), video.boxes[0])
    for index in (1, 2):
        box, _ = tracker.update(video.frame(index))
        assert np.isfinite(box).all()


def test_rgb_is_the_default_modality(dimp: Path, tmp_path: Path) -> None:
    assert run("convert", dimp, "--out", tmp_path / "dimp18.safetensors") == 0
    assert load_network(tmp_path / "dimp18.safetensors").settings.modality == "rgb"


def test_a_converted_trunk_starts_training(resnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "resnet18.safetensors"
    assert run("convert", resnet, "--out", out) == 0
    summary, last = capsys.readouterr().out.splitlines()
    assert summary.startswith(f"{resnet}: a trunk for training, ResNet-18; left out layer4 and fc")
    assert last == str(out)
    small = ["--depth", 18, "--width", 4, "--crop-size", 96, "--videos", 2]
    steps = ["--training.steps", 1, "--training.sequences", 2]
    for trunk in (out, resnet):
        runs = tmp_path / trunk.suffix[1:]
        assert run("train", "rgb", "--data", "synthetic", "--trunk", trunk, *small, *steps, "--out", runs) == 0
        # Its batch norm is its own, so training goes on with it; a folded one's would stay.
        count = load_network(runs / "network.safetensors").state_dict()["trunks.one.bn1.num_batches_tracked"]
        assert count > 7


def test_a_folded_trunk_stays_folded_in_training(
    resnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(resnet)
    folded = {name: value.numpy() for name, value in state.items() if value.ndim == 4}
    norms = {name.removesuffix("weight") + "bias": np.zeros(len(value), np.float32) for name, value in folded.items()}
    np.savez(tmp_path / "folded.npz", **folded, **norms)
    assert run("convert", tmp_path / "folded.npz", "--out", tmp_path / "trunk.safetensors") == 0
    assert "ResNet-18, batch norm folded" in capsys.readouterr().out
    small = ["--depth", 18, "--width", 4, "--crop-size", 96, "--videos", 2, "--training.steps", 1]
    start = ["train", "rgb", "--data", "synthetic", *small, "--training.sequences", 2, "--out", tmp_path / "run"]
    assert run(*start, "--trunk", tmp_path / "trunk.safetensors") == 0
    trained = read_trunk(tmp_path / "run" / "network.safetensors")
    assert trained.folded
    assert trained.tensors["bn1.num_batches_tracked"] == 0


def test_bad_data_is_one_line(dimp: Path, resnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.safetensors"
    assert f"{tmp_path / 'none.pth'}: there is no such file" in fails(
        capsys, "convert", tmp_path / "none.pth", "--out", out
    )
    line = fails(capsys, "convert", resnet, "--out", out, "--modality", "tir")
    assert f"--modality: is for a tracker, but {resnet} holds a ResNet alone" in line
    line = fails(capsys, "convert", dimp, "--out", "here.pth", status=2)
    assert "--out: expected a name that ends in .safetensors" in line
    cut = tmp_path / "cut.pth"
    cut.write_bytes(dimp.read_bytes()[:-100])
    assert f"{cut}: not a whole PyTorch checkpoint, truncated perhaps" in fails(capsys, "convert", cut, "--out", out)
    other = published()
    del other["bb_regressor.conv3_1r.0.weight"]
    checkpoints.save_tracker(cut, other)
    assert f"{cut}: weights of another architecture: missing bb_regressor.conv3_1r.0.weight" in fails(
        capsys, "convert", cut, "--out", out
    )
    assert not out.exists()


def test_our_own_network_needs_no_conversion(dimp: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "dimp18.safetensors"
    run("convert", dimp, "--out", out)
    before = out.read_bytes()
    assert f"--out: {out} is the checkpoint itself" in fails(capsys, "convert", out, "--out", out, status=2)
    line = fails(capsys, "convert", out, "--out", tmp_path / "again.safetensors")
    assert f"{out}: expected a checkpoint to convert, got a network of mmdistill" in line
    assert out.read_bytes() == before


def test_a_checkpoint_given_for_weights_says_what_to_do(dimp: Path) -> None:
    with pytest.raises(DataError, match=rf"{dimp}: from PyTorch, it seems; import it with `mmdistill convert`"):
        load_network(dimp)


@pytest.mark.parametrize("arguments", [[], ["a.pth"], ["a.pth", "--out", "b.safetensors", "--modality", "radar"]])
def test_wrong_arguments_are_status_two(arguments: list[str]) -> None:
    assert run("convert", *arguments) == 2
