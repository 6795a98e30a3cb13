"""Safetensors files with reproducible bytes, and with a digest inside that shows damage.

It needs safetensors, the extra ``cache``, and is never imported by ``mmdistill`` itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

DIGEST = "digest"
"""The metadata entry that holds ``tensors_digest`` of all else in the file."""

MAX_HEADER_BYTES = 4 << 20
"""A tracker's header, the names and shapes of its tensors, has under 100 kB."""


class TensorFileError(ValueError):
    """A file is not a whole safetensors file. The message is the reason, without the file's name."""


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """Return the content of a safetensors file, in parts to write one after the other.

    The same tensors and metadata give the same bytes. The digest is added to the metadata.

    Args:
        tensors: of any shape, real; they must not share memory. Older versions of the library store no complex ones.
        metadata: any texts.
    """
    plain = {name: _plain(value) for name, value in tensors.items()}
    packed = memoryview(save(plain, {**metadata, DIGEST: tensors_digest(plain, metadata)}))
    body = 8 + int.from_bytes(packed[:8], "little")
    # The library writes the metadata in another order in each process.
    header = json.dumps(json.loads(bytes(packed[8:body])), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # so that the values stay aligned
    return [len(header).to_bytes(8, "little"), header, packed[body:]]


def unpack(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a safetensors file's tensors and metadata, unchecked: see ``digest_problem``.

    Raises:
        TensorFileError: it is truncated, no safetensors file, or no regular file.
    """
    if not Path(path).is_file():  # a pipe or a device could be read without end
        raise TensorFileError("it is no regular file")
    try:
        with Path(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise TensorFileError(f"its header is said to have {length:,} bytes, the limit is {MAX_HEADER_BYTES:,}")
        with safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return tensors, dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise TensorFileError(str(error)[:200]) from error


def tensors_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return 64 hexadecimal digits (SHA-256) of tensors and metadata, in whatever order they come.

    Names, dtypes, shapes and the bytes of all values count: 0.0 and -0.0 differ, and so do two kinds of NaN. An entry
    of the metadata that holds the digest itself does not count.
    """
    entries = sorted((key, value) for key, value in metadata.items() if key != DIGEST)
    digest = hashlib.sha256(json.dumps(entries).encode())
    for name, value in sorted(tensors.items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(_plain(value).reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_problem(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, required: bool) -> str | None:
    """Return why a file's content can't be what was written, or None.

    Args:
        tensors: the file's.
        metadata: the file's.
        required: whether there must be a digest, as in all files that ``pack`` made.
    """
    expected = metadata.get(DIGEST)
    if expected is None:
        return "it has no digest (is it of an earlier version?)" if required else None
    if (found := tensors_digest(tensors, metadata)) != expected:
        return f"its content has the digest {found[:12]}, expected {expected[:12]}"
    return None


def _plain(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous()
