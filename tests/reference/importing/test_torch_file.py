"""Files of torch.save read as data: the same tensors as torch.load, and one line of error for anything else."""

import contextlib
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmdistill.reference.importing.pickles import MAX_PICKLE_BYTES, OpaqueObject
from mmdistill.reference.importing.torch_file import StoredTensor, TorchFile, read_torch_file
from mmdistill.toolkit.data_issues import DataError

CONTAINERS = pytest.mark.parametrize("stream", [False, True], ids=["zip", "stream"])


def tensors_of(file: TorchFile) -> dict[str, Tensor]:
    return file.tensors(file.content)


@CONTAINERS
def test_tensors_equal_torch_load(tmp_path: Path, stream: bool) -> None:
    base = torch.randn(6, 5)
    others = (torch.float64, torch.int64, torch.uint8, torch.bool)
    content = OrderedDict(
        whole=base,
        transposed=base.T,
        part=base[1:4, ::2],
        scalar=torch.tensor(3.5),
        parameter=torch.nn.Parameter(torch.randn(3)),
        **{str(dtype): torch.ones(3, 2, dtype=dtype) for dtype in others},
        half=torch.randn(4).half(),
        brain=torch.randn(4).bfloat16(),
    )
    checkpoints.save(tmp_path / "file.pth", content, stream=stream)
    expected = torch.load(tmp_path / "file.pth", weights_only=True)
    found = tensors_of(read_torch_file(tmp_path / "file.pth"))
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor.detach(), rtol=0, atol=0)


@CONTAINERS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_that_torch_can_write(tmp_path: Path, stream: bool, protocol: int) -> None:
    content = {"weight": torch.randn(2, 3)}
    path = tmp_path / "file.pth"
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not stream)
    torch.testing.assert_close(tensors_of(read_torch_file(path)), content)


@CONTAINERS
def test_unknown_classes_are_named_and_other_content_kept(tmp_path: Path, stream: bool) -> None:
    net = OrderedDict(weight=torch.randn(2, 3))
    checkpoints.save_tracker(tmp_path / "file.pth", net, stream=stream)
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "file.pth", weights_only=True)
    file = read_torch_file(tmp_path / "file.pth")
    torch.testing.assert_close(file.tensors(file.content["net"]), dict(net))
    assert file.content["epoch"] == 50
    assert file.content["settings"] == OpaqueObject(f"{checkpoints.FOREIGN}.Thing")
    assert file.content["optimizer"]["param_groups"][0]["lr"] == 1e-3
    assert isinstance(file.content["optimizer"]["state"][0]["exp_avg"], StoredTensor)
    assert {f"{checkpoints.FOREIGN}.{name}" for name in ("Thing", "Meter", "Kind")} < set(file.ignored_classes)
    assert not any("Storage" in name for name in file.ignored_classes)


def made_by(call: tuple[Callable[..., object], tuple[Any, ...]]) -> object:
    """An object that torch.save writes as a call."""

    class Made:
        def __reduce__(self) -> Any:
            return call

    return Made()


def rebuilt(offset: Any, shape: Any, stride: Any, storage: Any = None) -> object:
    """A tensor's description, on a storage of six values."""
    storage = torch.arange(6.0)._typed_storage() if storage is None else storage
    return made_by((torch._utils._rebuild_tensor_v2, (storage, offset, shape, stride, False, OrderedDict())))


@CONTAINERS
@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (rebuilt(0, (2, 4), (4, 1)), "it has 8 values, its storage 6"),
        (rebuilt(1, (2, 3), (3, 1)), "it ends after its storage"),
        (rebuilt(0, (2, 3), (4, 1)), "it ends after its storage"),
        (rebuilt(0, (2,), (1 << 62,)), "it ends after its storage"),
        (rebuilt(0, (1 << 62,), (0,)), "values, its storage 6"),
        (rebuilt(0, (1 << 40, 1 << 40), (0, 0)), "values, its storage 6"),
        (rebuilt(0, (0, 3), (3, 1)), "it has 0 values"),
        (rebuilt(-1, (2,), (1,)), "its shape, stride or offset is invalid"),
        (rebuilt(0, (-2, -3), (3, 1)), "its shape, stride or offset is invalid"),
        (rebuilt(0, (2,), (-1,)), "its shape, stride or offset is invalid"),
        (rebuilt(0, (2.0,), (1,)), "its shape, stride or offset is invalid"),
        (rebuilt(0, [2], (1,)), "its shape, stride or offset is invalid"),
        (rebuilt("0", (2,), (1,)), "its shape, stride or offset is invalid"),
        (rebuilt(0, (2, 3), (1,)), "it has 2 axes and 1 strides"),
        (rebuilt(0, (1,) * 99, (1,) * 99), "it has 99 axes"),
        (rebuilt(0, (2,), (1,), storage=7), "its storage is missing"),
    ],
)
def test_invalid_tensors_are_refused(tmp_path: Path, stream: bool, tensor: object, says: str) -> None:
    checkpoints.save(tmp_path / "file.pth", {"good": torch.ones(2), "bad": tensor}, stream=stream)
    file = read_torch_file(tmp_path / "file.pth")
    with pytest.raises(DataError, match=rf"file.pth: bad: an invalid tensor, .*{says}"):
        tensors_of(file)
    assert file.tensors({"good": file.content["good"]})["good"].tolist() == [1, 1]


def test_a_tensor_may_repeat_values(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "file.pth", {"row": rebuilt(2, (2, 3), (0, 1))})
    assert tensors_of(read_torch_file(tmp_path / "file.pth"))["row"].tolist() == [[2, 3, 4], [2, 3, 4]]


@CONTAINERS
def test_tensors_that_share_a_storage_become_independent(tmp_path: Path, stream: bool) -> None:
    tied, flat = torch.randn(3), torch.randn(6)
    content = {
        "weight": tied,
        "bias": tied,
        "front": flat[:4].view(2, 2),
        "back": flat[2:],
        "turned": flat.view(2, 3).T,
    }
    checkpoints.save(tmp_path / "file.pth", content, stream=stream)
    found = tensors_of(read_torch_file(tmp_path / "file.pth"))
    torch.testing.assert_close(found, content, rtol=0, atol=0)
    assert len({value.untyped_storage().data_ptr() for value in found.values()}) == len(content)
    assert all(value.is_contiguous() for value in found.values())
    found["weight"].zero_()
    assert torch.equal(found["bias"], tied)


@CONTAINERS
def test_a_few_values_do_not_become_many_tensors(tmp_path: Path, stream: bool) -> None:
    tied = torch.randn(100)
    for count in (4, 5):
        content = {str(index): tied for index in range(count)} | {"one": tied[:1].clone()}
        checkpoints.save(tmp_path / f"{count}.pth", content, stream=stream)
    assert len(tensors_of(read_torch_file(tmp_path / "4.pth"))) == 5
    with pytest.raises(DataError, match=r"5.pth: expected at most 1,616 bytes of tensors, got 2,004$"):
        tensors_of(read_torch_file(tmp_path / "5.pth"))


def stream_of(*contents: object, rest: bytes = b"") -> bytes:
    return b"".join(pickle.dumps(content, 2) for content in contents) + rest


MACHINE = {"little_endian": True}
MAGIC = 0x1950A86A20F9469CFC6C


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "a broken pickle|exhausted"),
        (b"a text, not a checkpoint", "not a complete PyTorch checkpoint"),
        (stream_of({"weight": 1}), "its first pickle is not the magic number"),
        (stream_of(MAGIC, 1001), "exhausted"),
        (stream_of(MAGIC, 1001, {"little_endian": False}, {}, []), "not little-endian"),
        (stream_of(MAGIC, 1001, MACHINE, {}, ["7"]), "'7'"),
        (stream_of(MAGIC, 1001, MACHINE, {}, 7), "not iterable"),
        (stream_of(MAGIC, 1001, MACHINE, {}, [7]), "expected a text as a storage's key, got int"),
        (
            stream_of(MAGIC, 1001, MACHINE, {}) + b"](" + b")" + b"2\x86" * 60 + b"e.",
            "expected a text as a storage's key, got tuple",
        ),
        (b"PK\x03\x04 and little more", "not a zip file"),
    ],
)
def test_other_content_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says) as raised:
        read_torch_file(path)
    assert str(raised.value).startswith(f"{path}: not a complete PyTorch checkpoint")
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.pth: there is no such file"):
        read_torch_file(tmp_path / "none.pth")


@CONTAINERS
def test_every_truncation_is_detected(tmp_path: Path, stream: bool) -> None:
    path = tmp_path / "file.pth"
    checkpoints.save(path, {"weight": torch.randn(2, 3), "bias": torch.randn(3)}, stream=stream)
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 13), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"file.pth: not a complete PyTorch checkpoint"):
            read_torch_file(path)


def rezipped(source: Path, change: Callable[[str, bytes], bytes | None], kind: int = zipfile.ZIP_STORED) -> bytes:
    """A zip container with its entries changed, or removed if the change is None."""
    written = io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(written, "w", kind) as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return written.getvalue()


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    checkpoints.save(tmp_path / "file.pth", {"weight": torch.zeros(1000)})
    return tmp_path / "file.pth"


def test_a_zip_with_false_sizes_is_refused(zipped: Path) -> None:
    whole = zipped.read_bytes()
    zipped.write_bytes(rezipped(zipped, lambda _, content: content, zipfile.ZIP_DEFLATED))
    with pytest.raises(DataError, match="its entries are compressed"):
        read_torch_file(zipped)
    # Two entries that lie on the same bytes: small files could name any amount of data.
    directory = whole.index(b"PK\x01\x02")
    entry = whole.index(b"file/data/0", directory) - 46
    size = (1 << 31).to_bytes(4, "little")
    zipped.write_bytes(whole[: entry + 20] + size + size + whole[entry + 28 :])
    with pytest.raises(DataError, match="its entries are larger than the file"):
        read_torch_file(zipped)


def test_a_zip_with_a_part_missing_or_damaged_is_refused(zipped: Path) -> None:
    whole = zipped.read_bytes()

    def rewritten(change: Callable[[str, bytes], bytes | None]) -> TorchFile:
        zipped.write_bytes(whole)
        zipped.write_bytes(rezipped(zipped, change))
        return read_torch_file(zipped)

    with pytest.raises(DataError, match=r"expected one data\.pkl in it, got 0"):
        rewritten(lambda name, content: None if name.endswith(".pkl") else content)
    with pytest.raises(DataError, match="not little-endian"):
        rewritten(lambda name, content: b"big" if name.endswith("byteorder") else content)
    assert tensors_of(rewritten(lambda name, content: None if name.endswith("byteorder") else content))
    for short in (None, b"\0" * 3999, b"\0" * 4004):
        file = rewritten(lambda name, content, short=short: short if name.endswith("data/0") else content)  # type: ignore[misc]
        with pytest.raises(DataError, match=r"file.pth: weight: its values can't be read \(expected 4000 bytes in"):
            tensors_of(file)
    flipped = bytearray(whole)
    flipped[whole.index(b"\0" * 4000) + 2000] ^= 1
    zipped.write_bytes(flipped)
    with pytest.raises(DataError, match=r"weight: its values can't be read .*CRC"):
        tensors_of(read_torch_file(zipped))


@CONTAINERS
def test_a_pickle_beyond_the_limit_is_refused_with_its_size(tmp_path: Path, stream: bool) -> None:
    path = tmp_path / "large.pth"
    checkpoints.save(path, {"weight": torch.zeros(2), "text": "x" * MAX_PICKLE_BYTES}, stream=stream)
    says = r"more than 4,194,304 bytes" if stream else r"its data.pkl has 4,194,\d\d\d bytes, the limit is 4,194,304"
    with pytest.raises(DataError, match=rf"{path}: .*{says}"):
        read_torch_file(path)
    checkpoints.save(path, {"weight": torch.zeros(2), "text": "x" * (MAX_PICKLE_BYTES - 2000)}, stream=stream)
    assert read_torch_file(path).content["weight"].shape == (2,)


def test_a_storage_of_two_kinds_is_refused(tmp_path: Path) -> None:
    content = (
        b"\x80\x02](("  # a list of two storages of one key
        b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"
        b"(X\x07\x00\x00\x00storagectorch\nDoubleStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQe."
    )
    path = tmp_path / "file.pth"
    path.write_bytes(stream_of(MAGIC, 1001, MACHINE) + content + stream_of([]))
    with pytest.raises(DataError, match="storage '0' has two descriptions"):
        read_torch_file(path)


def test_files_of_the_oldest_versions(tmp_path: Path) -> None:
    """Python 2's ordered dictionaries, parameters that were pickled as such, parts of storages."""
    written = io.BytesIO()
    storage = object()

    class Writer(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cuda:3", 6, ("part", 2, 4)) if obj is storage else None

    tensor = made_by((torch._utils._rebuild_tensor, (storage, 1, torch.Size((3,)), (1,))))
    parameter = made_by((torch.nn.Parameter, (tensor,)))
    ordered = made_by((OrderedDict, ([["weight", tensor], ["bias", parameter]],)))
    Writer(written, 2).dump(ordered)
    storages = (6).to_bytes(8, "little") + torch.arange(6.0).numpy().tobytes()
    path = tmp_path / "file.pth"
    path.write_bytes(stream_of(MAGIC, 1001, MACHINE) + written.getvalue() + stream_of(["0"], rest=storages))
    found = tensors_of(read_torch_file(path))
    assert {name: value.tolist() for name, value in found.items()} == {"weight": [3, 4, 5], "bias": [3, 4, 5]}


@CONTAINERS
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, stream: bool, data: st.DataObject) -> None:
    path = tmp_path / "file.pth"
    checkpoints.save(path, {"net": {"weight": torch.randn(2, 3), "bias": torch.randn(3)}, "epoch": 3}, stream=stream)
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    with contextlib.suppress(DataError):
        file = read_torch_file(path)
        net = file.content.get("net") if isinstance(file.content, dict) else None
        if isinstance(net, dict):
            file.tensors({str(name): value for name, value in net.items() if isinstance(value, StoredTensor)})
