"""Tensors by name out of any kind of file, which its content tells."""

from pathlib import Path

import checkpoints
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmdistill.reference.importing.weights_file import read_weights_file
from mmdistill.toolkit.data_issues import DataError


@pytest.mark.parametrize("kind", ["zip", "stream", "npz", "safetensors"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_content_decides_what_a_file_is(tmp_path: Path, kind: str, prefix: str) -> None:
    tensors = {f"{prefix}{name}": torch.randn(2, 3) for name in ("one.weight", "two.weight")}
    path = tmp_path / "file.of_any_name"
    if kind == "npz":
        with path.open("wb") as stream:
            np.savez(stream, **{name: value.numpy() for name, value in tensors.items()})  # type: ignore[arg-type]
    elif kind == "safetensors":
        save_file(tensors, path, {"format": "pt"})
    else:
        checkpoints.save(path, tensors, stream=kind == "stream")
    state = read_weights_file(path)
    torch.testing.assert_close(state.tensors, {name.removeprefix(prefix): value for name, value in tensors.items()})
    assert (state.path, state.ignored_classes) == (str(path), ())
    assert state.format == ("pt" if kind == "safetensors" else "")


@pytest.mark.parametrize("wrapper", ["net", "state_dict"])
def test_the_network_inside_a_checkpoint_is_found(tmp_path: Path, wrapper: str) -> None:
    tensors = {"weight": torch.randn(3)}
    checkpoints.save(tmp_path / "file.pth", {"epoch": 3, wrapper: tensors, "mean": torch.zeros(3)})
    torch.testing.assert_close(read_weights_file(tmp_path / "file.pth").tensors, tensors)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "got nothing"),
        ({"epoch": 3, "loss": 0.5, "a": 1, "b": 2}, "got the entries a, b, epoch and 1 more"),
        ({1 << 40_000: 3}, "got nothing"),
        ([torch.zeros(1)], "got a list"),
        (nn.Linear(2, 2), r"got an object of torch.nn.modules.linear.Linear: save its state_dict\(\) instead"),
        ({"weight": torch.zeros(1), "shape": (1,)}, "expected tensors only, got something else under shape"),
    ],
)
def test_what_has_no_tensors_by_name_is_described(tmp_path: Path, content: object, says: str) -> None:
    for stream in (False, True):
        path = tmp_path / f"{stream}.pth"
        if stream and isinstance(content, nn.Module):
            continue  # torch warns that it can't find the source
        checkpoints.save(path, content, stream=stream)
        with pytest.raises(DataError, match=rf"{stream}.pth: .*{says}"):
            read_weights_file(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.pth: there is no such file"):
        read_weights_file(tmp_path / "none.pth")
    for content in (b"", b"short", b"a text that is long enough"):
        (tmp_path / "text.pth").write_bytes(content)
        with pytest.raises(DataError, match=r"text.pth: expected a PyTorch checkpoint, an .npz or a safetensors file"):
            read_weights_file(tmp_path / "text.pth")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 not much")
    with pytest.raises(DataError, match=r"cut.npz: not a readable .npz file"):
        read_weights_file(tmp_path / "cut.npz")
    np.savez(tmp_path / "objects.npz", weight=np.array([{}], dtype=object))
    with pytest.raises(
        DataError, match=r"objects.npz: not a readable .npz file .*expected numbers, got Python objects"
    ):
        read_weights_file(tmp_path / "objects.npz")
