"""What is said of a file that was given as a network and is something else."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from mmdistill.cli.main import main
from mmdistill.feature_cache import FeatureCache
from mmdistill.reference.models.config import student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network, save_network
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import write_image

VALUES = {"conv1.weight": torch.ones(2)}
ONNX = b"\x08\x0a\x12\x07pytorch\x1a\x062.13.0:\xff\x01"


def run_folder(path: Path) -> None:
    path.mkdir()
    (path / "network.safetensors").write_bytes(b"")


def features(path: Path) -> None:
    FeatureCache(path.parent / "cache", teacher="t").put("key", {"a": torch.ones(2)})
    (stored,) = (path.parent / "cache").rglob("*.safetensors")
    stored.rename(path)


KINDS: list[tuple[str, Callable[[Path], object], tuple[str, ...]]] = [
    ("model.onnx", lambda path: path.write_bytes(ONNX), ("ONNX", "onnxruntime", "network.safetensors")),
    ("model.bin", lambda path: path.write_bytes(ONNX), ("ONNX", "network.safetensors")),
    ("dimp.pth", lambda path: torch.save(VALUES, path), ("PyTorch", "mmdistill convert")),
    (
        "old.pth",
        lambda path: torch.save(VALUES, path, _use_new_zipfile_serialization=False),
        ("PyTorch", "mmdistill convert"),
    ),
    ("any.pkl", lambda path: path.write_bytes(pickle.dumps({"a": 1})), ("PyTorch", "mmdistill convert")),
    ("trunk.npz", lambda path: np.savez(path, conv=np.ones(3)), ("NumPy", "mmdistill convert", "--trunk")),
    ("one.npy", lambda path: np.save(path, np.ones(3)), ("NumPy",)),
    ("run", run_folder, ("a folder", "run/network.safetensors")),
    ("empty", lambda path: path.mkdir(), ("a folder", "which training writes at its end")),
    ("nothing.safetensors", lambda path: path.write_bytes(b""), ("an empty file",)),
    ("config.yaml", lambda path: path.write_text("name: tracker\nä: 1\n"), ("a text file", "'name: tracker'")),
    (
        "network.safetensors",
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        ("Git LFS pointer", "git lfs pull"),
    ),
    ("hub.safetensors", lambda path: save_file(VALUES, path, {"format": "pt"}), ("'no format'", "mmdistill convert")),
    ("bare.safetensors", lambda path: save_file(VALUES, path), ("'no format'", "mmdistill convert")),
    (
        "checkpoint.safetensors",
        lambda path: save_file(VALUES, path, {"format": "mmdistill-training-2"}),
        ("training run's checkpoint", "network.safetensors"),
    ),
    ("trunk.safetensors", lambda path: save_file(VALUES, path, {"format": "mmdistill-trunk-1"}), ("trunk", "--trunk")),
    ("features.safetensors", features, ("features", "cache", "network.safetensors")),
    ("frame.png", lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), ("an image",)),
]


@pytest.mark.parametrize(("name", "write", "says"), KINDS, ids=[name for name, *_ in KINDS])
def test_what_it_is_and_what_to_do(
    name: str, write: Callable[[Path], object], says: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / name
    write(path)
    with pytest.raises(DataError) as refused:
        load_network(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for part in says:
        assert part in message


@pytest.mark.parametrize(
    "command",
    [
        ["track", "--weights", "{}", "--rgb", "{}.clip", "--init", "1,1,5,5", "--out", "{}.out"],
        ["evaluate", "--weights", "{}", "--benchmark", "gtot", "--root", ".", "--out", "{}.out"],
        ["export", "--weights", "{}", "--out", "{}.new.onnx"],
        ["train", "student", "--data", "synthetic", "--teacher", "{}", "--out", "{}.out"],
    ],
    ids=["track", "evaluate", "export", "train --teacher"],
)
def test_every_command_says_it(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(ONNX)
    write_image(
        tmp_path / "model.onnx.clip" / "1.png", np.arange(1800, dtype=np.uint16).reshape(20, 30, 3).astype(np.uint8)
    )
    assert main([part.format(path) for part in command]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path}: an ONNX file" in line
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx", "model.onnx.clip"]


def test_a_network_passes_whatever_its_name(tmp_path: Path) -> None:
    for name in ("network.safetensors", "mine.onnx", "mine.pth"):
        save_network(tmp_path / name, TrackerNetwork(student_settings(width=4, crop_size=96)))
        load_network(tmp_path / name)


@given(st.binary(max_size=400))
def test_no_bytes_are_more_than_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(content)
    with pytest.raises(DataError, match=str(path)):
        load_network(path)


@given(st.integers(0, 100), st.binary(min_size=1, max_size=9))
def test_no_damage_to_a_header_is_more_than_refused(
    tmp_path_factory: pytest.TempPathFactory, place: int, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    whole = save(VALUES, {"format": "mmdistill-training-2"})
    path.write_bytes(whole[:place] + content + whole[place + len(content) :])
    with pytest.raises(DataError, match=str(path)):
        load_network(path)
