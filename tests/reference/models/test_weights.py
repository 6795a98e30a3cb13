"""Weights files, and files of other kinds given as networks."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from mmdistill.cli.main import main
from mmdistill.feature_cache import FeatureCache
from mmdistill.reference.models.config import student_settings, teacher_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import check_fit, load_network, read_tensors, save_network, write_tensors
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import write_image


@pytest.fixture
def saved(tmp_path: Path) -> tuple[TrackerNetwork, Path]:
    network = TrackerNetwork(student_settings(width=4, crop_size=96)).eval()
    save_network(tmp_path / "network.safetensors", network)
    return network, tmp_path / "network.safetensors"


def test_a_round_trip_keeps_settings_and_every_bit(saved: tuple[TrackerNetwork, Path]) -> None:
    network, path = saved
    loaded = load_network(path)
    assert loaded.settings == network.settings
    assert not loaded.training
    torch.testing.assert_close(loaded.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_a_truncated_file_is_named(saved: tuple[TrackerNetwork, Path]) -> None:
    _, path = saved
    for length in (3, 100, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(DataError, match=r"network.safetensors: not a complete safetensors file"):
            load_network(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing.safetensors: there is no such file"):
        load_network(tmp_path / "missing.safetensors")
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="expected a network of format 'mmdistill-network-2', got 'no format'"):
        load_network(tmp_path / "other.safetensors")


def test_weights_of_another_architecture_are_listed(saved: tuple[TrackerNetwork, Path]) -> None:
    _, path = saved
    _, metadata = read_tensors(path)
    other = TrackerNetwork(teacher_settings(depth=18, width=4, crop_size=96)).state_dict()
    write_tensors(path, other, metadata)
    with pytest.raises(
        DataError, match=r"another architecture: missing fusions.0.gate.* and \d+ more; unknown fusions.0"
    ):
        load_network(path)
    wider = TrackerNetwork(student_settings(width=8, crop_size=96)).state_dict()
    write_tensors(path, wider, metadata)
    with pytest.raises(DataError, match=r"misshapen .* instead of"):
        load_network(path)


UNREAD = "its network settings are invalid .*"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"search_area": 0}, UNREAD + "search_area: expected a number from 1 to 100, got 0.0"),
        (
            {"search_area": float("nan")},
            UNREAD + "search_area: expected a number from 1 to 100, got nan",
        ),
        (
            {"label_sigma": float("inf")},
            UNREAD + "label_sigma: expected a number from 0.001 to 10, got inf",
        ),
        (
            {"label_sigma": -0.25},
            UNREAD + "label_sigma: expected a number from 0.001 to 10, got -0.25",
        ),
        (
            {"optimiser_iterations": -1},
            UNREAD + "optimiser_iterations: expected a whole number from 0 to 1,000, got -1",
        ),
        ({"search_area": 10**400}, "its network settings are invalid"),
        ({"width": 7}, "its network settings are invalid .*width: expected a multiple of 2 from 2 to 256, got 7"),
        ({"width": 10**9}, UNREAD + "width: expected .*, got 1000000000"),
        ({"width": 10**30}, UNREAD + "width: expected .*, got 10{30}"),
        ({"crop_size": 16 * 10**400}, UNREAD + "crop_size: expected "),
        ({"crop_size": 1_000_000}, UNREAD + "crop_size: expected .*, got 1000000"),  # of terabytes
        ({"width": 256}, "weights of another architecture: misshapen .* and 143 more"),
        ({"filter_size": 1000}, UNREAD + "filter_size: expected .*, got 1000"),
    ],
)
def test_invalid_settings_are_refused_before_building(
    saved: tuple[TrackerNetwork, Path], change: dict[str, Any], says: str
) -> None:
    _, path = saved
    tensors, metadata = read_tensors(path)
    settings = json.loads(metadata["network"]) | change
    write_tensors(path, tensors, metadata | {"network": json.dumps(settings)})
    with pytest.raises(DataError, match=rf"network.safetensors: {says}") as raised:
        load_network(path)
    assert "\n" not in str(raised.value)


def test_deeply_nested_settings_are_refused(saved: tuple[TrackerNetwork, Path]) -> None:
    _, path = saved
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, metadata | {"network": "[" * 200_000})
    with pytest.raises(DataError, match="its network settings are invalid"):
        load_network(path)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (torch.ones(4, dtype=torch.int32), "of another type trunks.one.bn1.bias torch.int32"),
        (torch.ones(4, dtype=torch.bool), "of another type trunks.one.bn1.bias torch.bool"),
        (torch.tensor([0, 0, float("inf"), 0]), "infinite or NaN trunks.one.bn1.bias"),
        (torch.tensor([0, 0, float("nan"), 0]), "infinite or NaN trunks.one.bn1.bias"),
    ],
)
def test_invalid_values_are_named(saved: tuple[TrackerNetwork, Path], value: torch.Tensor, says: str) -> None:
    _, path = saved
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors | {"trunks.one.bn1.bias": value}, metadata)
    with pytest.raises(DataError, match=rf"network.safetensors: invalid values: {says}$"):
        load_network(path)


def test_twenty_of_each_are_listed_by_name() -> None:
    expected = {f"w{index:02}": torch.zeros(1) for index in range(40)}
    for count, more in ((20, ""), (21, " and 1 more"), (40, " and 20 more")):
        names = sorted(expected)[:count]
        there = {name: value for name, value in expected.items() if name not in names}
        listed = {
            "architecture: missing": (there, ""),
            "architecture: unknown": (expected | {name.upper(): torch.zeros(1) for name in names}, "upper"),
            "architecture: misshapen": (expected | dict.fromkeys(names, torch.zeros(2)), " (2,) instead of (1,)"),
            "invalid values: of another type": (expected | dict.fromkeys(names, torch.ones(1).bool()), " torch.bool"),
            "invalid values: infinite or NaN": (expected | dict.fromkeys(names, torch.full((1,), float("nan"))), ""),
        }
        for what, (tensors, after) in listed.items():
            told = [name.upper() if after == "upper" else name + after for name in names[:20]]
            with pytest.raises(DataError) as raised:
                check_fit(expected, tensors, where="file")
            assert str(raised.value).endswith(f"{what} {', '.join(told)}{more}")


def test_a_path_without_a_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path, kind in (
        (tmp_path / "pipe", "expected a regular file, found a named pipe"),
        (tmp_path / "link", "expected a regular file, found a character device"),
        (tmp_path, "a folder"),
    ):
        with pytest.raises(DataError, match=f"{path}: {kind}"):
            load_network(path)


def test_a_file_without_a_digest_is_refused(saved: tuple[TrackerNetwork, Path]) -> None:
    _, path = saved
    tensors, metadata = read_tensors(path)
    save_file(tensors, path, {name: value for name, value in metadata.items() if name != "digest"})
    with pytest.raises(DataError, match=rf"{path}: damaged, or changed .*: it has no digest"):
        load_network(path)
    save_file(tensors | {"iou_net.predictor.bias": torch.ones(1)}, path, metadata)
    with pytest.raises(
        DataError, match=rf"{path}: damaged, or changed .*: its content has the digest [0-9a-f]{{12}}, "
    ):
        load_network(path)


def test_long_names_and_values_are_shortened(saved: tuple[TrackerNetwork, Path]) -> None:
    _, path = saved
    tensors, metadata = read_tensors(path)
    settings = json.loads(metadata["network"])
    for change in (
        {"w" * 50_000: 1},
        {"fusion": "\x1b[2J" * 5_000},
        {"width": [[[]] * 5_000] * 2},
        {"depth": "9" * 10**6},
    ):
        write_tensors(path, tensors, metadata | {"network": json.dumps(settings | change)})
        with pytest.raises(DataError, match=f"{path}: its network settings are invalid") as raised:
            load_network(path)
        assert len(str(raised.value)) < len(str(path)) + 300
        assert str(raised.value).isprintable()
    write_tensors(path, tensors | {"w" * 10**6: torch.zeros(1)}, metadata)
    with pytest.raises(DataError, match="unknown www") as raised:
        load_network(path)
    assert len(str(raised.value)) < len(str(path)) + 300


@pytest.mark.parametrize(
    "change", [{"streams": True}, {"width": 4.0}, {"depth": 18.0}, {"crop_size": None}, {"fusion": ["mpsd"]}]
)
def test_settings_of_another_type_are_refused(saved: tuple[TrackerNetwork, Path], change: dict[str, Any]) -> None:
    _, path = saved
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, metadata | {"network": json.dumps(json.loads(metadata["network"]) | change)})
    with pytest.raises(DataError, match=rf"{path}: its network settings are invalid .*{next(iter(change))}: expected"):
        load_network(path)


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
def test_the_error_names_the_kind_and_the_remedy(
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
        ["export", "--weights", "{}", "--out", "{}.new"],
        ["train", "student", "--data", "synthetic", "--teacher", "{}", "--out", "{}.out"],
    ],
    ids=["track", "evaluate", "export", "train --teacher"],
)
def test_every_command_names_the_kind(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(ONNX)
    write_image(
        tmp_path / "model.onnx.clip" / "1.png", np.arange(1800, dtype=np.uint16).reshape(20, 30, 3).astype(np.uint8)
    )
    assert main([part.format(path) for part in command]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path}: an ONNX file" in line
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx", "model.onnx.clip"]


def test_a_network_may_have_any_file_name(tmp_path: Path) -> None:
    for name in ("network.safetensors", "mine.onnx", "mine.pth"):
        save_network(tmp_path / name, TrackerNetwork(student_settings(width=4, crop_size=96)))
        load_network(tmp_path / name)


@given(st.binary(max_size=400))
def test_random_bytes_are_refused_cleanly(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(content)
    with pytest.raises(DataError, match=str(path)):
        load_network(path)


@given(st.integers(0, 100), st.binary(min_size=1, max_size=9))
def test_a_damaged_header_is_refused_cleanly(
    tmp_path_factory: pytest.TempPathFactory, place: int, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    whole = save(VALUES, {"format": "mmdistill-training-2"})
    path.write_bytes(whole[:place] + content + whole[place + len(content) :])
    with pytest.raises(DataError, match=str(path)):
        load_network(path)
