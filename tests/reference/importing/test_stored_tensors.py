"""Descriptions of tensors in a checkpoint's pickle: their cost is linear in its length."""

import io
import tracemalloc

import pytest

from mmdistill.reference.importing.pickles import MAX_TEXT_LENGTH
from mmdistill.reference.importing.torch_file import Storage, StoredTensor, TensorPickles


def read(content: bytes) -> object:
    return TensorPickles().read(io.BytesIO(content))


def mappings(pairs: int, count: int) -> bytes:
    """Ordered dictionaries that all use one list of pairs."""
    listed = (
        b"(" + b"".join(b"U" + bytes([len(text := b"%d" % k)]) + text + b"N\x86" for k in range(pairs)) + b"lq\x010"
    )
    return b"\x80\x02ccollections\nOrderedDict\nq\x000" + listed + b"(" + b"h\x00h\x01\x85R" * count + b"l."


def test_one_list_of_pairs_does_not_become_many_dictionaries() -> None:
    assert read(mappings(1000, 2)) == [{str(k): None for k in range(1000)}] * 2
    bomb = mappings(20_000, 200)
    tracemalloc.start()
    with pytest.raises(ValueError, match="use the same content too often"):
        read(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(bomb) < 200_000
    assert peak < 100 * len(bomb)


def tensor(key: str = "0", length: bytes = b"K\x06", shape: bytes = b"K\x02\x85") -> bytes:
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX" + len(key).to_bytes(4, "little") + key.encode()
    storage += b"X\x03\x00\x00\x00cpu" + length + b"tQ"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + shape + b"K\x01\x85tR."


def test_a_tensor_is_described() -> None:
    described = read(tensor())
    assert isinstance(described, StoredTensor)
    assert described.problem() is None
    assert described.size == 8


def test_a_file_cannot_change_a_tensors_description() -> None:
    state = b"}X\x05\x00\x00\x00shapeK\x07sb"
    assert read(tensor()[:-1] + state + b".") == read(tensor())
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"
    changed = read(b"\x80\x02" + storage + b"}X\x06\x00\x00\x00lengthM\xff\xffsb.")
    assert isinstance(changed, Storage)
    assert changed.length == 6


@pytest.mark.parametrize(
    "content",
    [
        tensor(key="0" * (MAX_TEXT_LENGTH + 1)),
        tensor(length=b"\x8a\x09" + bytes(8) + b"\x01"),  # 2^64
        tensor(length=b"\x8b\x00\x10\x00\x00" + b"\x01" * 4096),
        tensor(length=b"J\xff\xff\xff\xff"),
    ],
)
def test_invalid_storages_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="an invalid storage"):
        read(content)


def test_a_size_with_too_many_digits_is_refused() -> None:
    described = read(tensor(shape=b"\x8b\x00\x10\x00\x00" + b"\x01" * 4096 + b"\x85"))
    assert isinstance(described, StoredTensor)
    assert described.problem() == "its shape, stride or offset is invalid"
