"""Safetensors files with reproducible bytes and a digest inside."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("safetensors", reason="safetensors is not installed")

from safetensors.torch import load_file, save_file

from mmdistill.tensor_file import MAX_HEADER_BYTES, TensorFileError, digest_problem, pack, tensors_digest, unpack

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)


def tensors_of_every_kind() -> dict[str, Tensor]:
    each = {str(dtype): torch.randint(0, 2, (3, 5)).to(dtype) for dtype in DTYPES}
    return each | {
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 2),
        "turned": torch.randn(2, 3).T,
        "part": torch.randn(6)[::2],
        "gradient": torch.randn(2, requires_grad=True),
    }


METADATA = {"format": "any", "a": "1", "z": "2", "ü\n": '"'}


def test_safetensors_reads_what_was_packed(tmp_path: Path) -> None:
    tensors = tensors_of_every_kind()
    content = b"".join(pack(tensors, METADATA))
    (tmp_path / "packed").write_bytes(content)
    found = load_file(tmp_path / "packed")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        torch.testing.assert_close(found[name], value.detach(), rtol=0, atol=0)
    assert int.from_bytes(content[:8], "little") % 8 == 0  # the values begin at a multiple of 8 bytes


def test_what_was_packed_comes_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "any.safetensors"
    path.write_bytes(b"".join(pack(tensors_of_every_kind(), METADATA)))
    tensors, metadata = unpack(path)
    assert metadata.items() > METADATA.items()
    assert digest_problem(tensors, metadata, required=True) is None


def test_the_same_content_has_the_same_bytes_in_any_order() -> None:
    tensors = tensors_of_every_kind()
    backwards = dict(reversed(tensors.items())), dict(reversed(METADATA.items()))
    contents = {b"".join(pack(*content)) for content in ((tensors, METADATA), backwards) for _ in range(8)}
    assert len(contents) == 1


def test_saved_again_by_others_it_is_still_whole(tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    first.write_bytes(b"".join(pack(tensors_of_every_kind(), METADATA)))
    save_file(*[unpack(first)[0], second], metadata=unpack(first)[1])
    tensors, metadata = unpack(second)
    assert digest_problem(tensors, metadata, required=True) is None
    assert b"".join(pack(tensors, metadata)) == first.read_bytes()


NAN = torch.tensor([0x7FC00000, 0x7FC00001], dtype=torch.int32).view(torch.float32)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (torch.tensor(0.0), torch.tensor(-0.0)),
        (NAN[0], NAN[1]),
        (torch.tensor(1.0), torch.tensor(1.0).view(torch.int32)),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(1), torch.zeros(())),
        (torch.zeros(0, 1), torch.zeros(1, 0)),
    ],
)
def test_contents_that_differ_have_different_digests(first: Tensor, second: Tensor) -> None:
    assert tensors_digest({"w": first}, {}) == tensors_digest({"w": first.clone()}, {})
    assert tensors_digest({"w": first}, {}) != tensors_digest({"w": second}, {})


def test_names_and_metadata_count_and_the_digest_itself_does_not() -> None:
    tensors = {"w": torch.zeros(2)}
    digests = [
        tensors_digest(*content)
        for content in (
            (tensors, {}),
            ({"v": torch.zeros(2)}, {}),
            ({}, {}),
            (tensors, {"a": "b"}),
            (tensors, {"a": "c"}),
            (tensors, {"ab": ""}),
        )
    ]
    assert len(set(digests)) == len(digests)
    assert tensors_digest(tensors, {"digest": "any"}) == digests[0]


def test_a_pipe_a_device_and_a_folder_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "zero", tmp_path, tmp_path / "missing"):
        with pytest.raises(TensorFileError, match="no regular file"):
            unpack(path)


def test_a_header_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.write((MAX_HEADER_BYTES + 8).to_bytes(8, "little"))
        file.truncate(MAX_HEADER_BYTES + 16)
    with pytest.raises(TensorFileError, match=r"4,194,312 bytes, the limit is 4,194,304"):
        unpack(path)
