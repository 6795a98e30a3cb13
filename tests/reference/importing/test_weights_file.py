"""Tensors by name from files of any kind; NumPy's files allocate no more than they hold."""

import contextlib
import io
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from mmdistill.reference.importing.weights_file import MAX_COMPRESSION, MIN_ARRAY_LIMIT, read_npz, read_weights_file
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
def test_content_without_named_tensors_is_described(tmp_path: Path, content: object, says: str) -> None:
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


def npy(array: Any, version: tuple[int, int] = (1, 0)) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), version)
    return stream.getvalue()


def header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def zipped(path: Path, content: bytes, kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr("weight.npy", content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_round_trip(tmp_path: Path, save: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "weight": rng.normal(size=(4, 3)).astype(np.float32),
        "columns": np.asfortranarray(rng.normal(size=(5, 2))),
        "count": np.array(3),
        "none": np.zeros((0, 2), np.float16),
        "zeros": np.zeros(100_000),
    }
    save(tmp_path / "file.npz", **arrays)
    found = read_npz(tmp_path / "file.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].numpy().dtype == array.dtype
        np.testing.assert_array_equal(found[name].numpy(), array)


def test_a_header_of_the_second_version(tmp_path: Path) -> None:
    found = read_npz(zipped(tmp_path / "file.npz", npy([1.5, 2.5], (2, 0))))
    torch.testing.assert_close(found, {"weight": torch.tensor([1.5, 2.5], dtype=torch.float64)})


def peak_of_refusing(path: Path, says: str) -> int:
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"{path.name}: not a readable .npz file \(.*{says}"):
        read_npz(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    size = 64 << 20
    path = zipped(tmp_path / "bomb.npz", header((size // 4,)) + bytes(size), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < size // 500
    assert peak_of_refusing(path, f"got {size + 128:,}") < 1 << 20


def test_a_bomb_with_a_false_size_is_not_unpacked(tmp_path: Path) -> None:
    size, said = 64 << 20, 1024
    content = zipped(tmp_path / "bomb.npz", header((224,)) + bytes(size), zipfile.ZIP_DEFLATED).read_bytes()
    whole = (size + 128).to_bytes(4, "little")
    assert content.count(whole) == 2  # before the content and in the directory
    (tmp_path / "bomb.npz").write_bytes(content.replace(whole, said.to_bytes(4, "little")))
    assert peak_of_refusing(tmp_path / "bomb.npz", "Bad CRC") < 1 << 20


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 70,), (3,), (1,), (), (-2,), (2, 0)])
def test_a_shape_that_differs_from_the_content_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = zipped(tmp_path / "file.npz", header(shape) + bytes(8))
    assert peak_of_refusing(path, "expected 8 bytes of values") < 1 << 20


def compressed(path: Path, noise: int, zeros: int) -> Path:
    """A file of about ``noise`` bytes."""
    rng = np.random.default_rng(0)
    np.savez_compressed(path, noise=rng.integers(0, 256, noise, np.uint8), zeros=np.zeros(zeros, np.uint8))
    return path


def test_limit_of_compression(tmp_path: Path) -> None:
    path, noise = tmp_path / "file.npz", 1 << 17
    assert len(read_npz(compressed(path, 1, MIN_ARRAY_LIMIT))["zeros"]) == MIN_ARRAY_LIMIT
    peak_of_refusing(compressed(path, 1, 2 * MIN_ARRAY_LIMIT), "expected at most")
    assert len(read_npz(compressed(path, noise, MAX_COMPRESSION * noise))["zeros"]) == MAX_COMPRESSION * noise
    more = 2 * MIN_ARRAY_LIMIT + MAX_COMPRESSION * noise
    peak_of_refusing(compressed(path, noise, more), "expected at most")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no array", "magic"),
        (npy(["text"]), "can't convert"),
        (header((1,), "|O") + b"pickled", "expected numbers, got Python objects"),
        (header((2,), "|V0"), "can't convert"),
        (npy([1.0]).replace(b"NUMPY\x01", b"NUMPY\x07"), "format version"),
    ],
)
def test_other_content_than_numbers_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=rf"file.npz: not a readable .npz file \(.*{says}"):
        read_npz(zipped(tmp_path / "file.npz", content))


def test_other_compressions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'weight.npy': expected no compression or deflate"):
        read_npz(zipped(tmp_path / "file.npz", npy([1.0]), zipfile.ZIP_LZMA))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_array_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray(npy(np.arange(6.0).reshape(2, 3)))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = zipped(tmp_path / "file.npz", bytes(damaged))
    with warnings.catch_warnings(), contextlib.suppress(DataError):
        warnings.simplefilter("ignore")  # NumPy's, of headers that Python 2 could have written
        read_npz(path)


def test_the_real_folded_trunk_is_read(real_data: Path) -> None:
    path = real_data / "weights" / "resnet18_imagenet_folded.npz"
    found = read_npz(path)
    with np.load(path) as file:
        assert list(found) == file.files
        np.testing.assert_array_equal(found["conv1.weight"].numpy(), file["conv1.weight"])
