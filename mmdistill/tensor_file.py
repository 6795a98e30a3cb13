"""Safetensors files with reproducible bytes, and a digest that reveals damage.

This module needs safetensors, the extra ``cache``; ``mmdistill`` does not import it.
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
"""The metadata entry with the ``tensors_digest`` of all other content."""

MAX_HEADER_BYTES = 4 << 20
"""Limit of a header, which holds the tensors' names and shapes; a tracker's has under 100 kB."""


class TensorFileError(ValueError):
    """A file is no complete safetensors file. The message is the reason, without the file's name."""


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """Return the content of a safetensors file, as parts to write in order.

    The same tensors and metadata give the same bytes. The digest is added to the metadata.

    Args:
        tensors: real tensors of any shape, which must not share memory.
        metadata: any strings.
    """
    plain = {name: _plain(value) for name, value in tensors.items()}
    packed = memoryview(save(plain, {**metadata, DIGEST: tensors_digest(plain, metadata)}))
    body = 8 + int.from_bytes(packed[:8], "little")
    # safetensors writes the metadata in an order that differs between processes.
    header = json.dumps(json.loads(bytes(packed[8:body])), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # keeps the values aligned
    return [len(header).to_bytes(8, "little"), header, packed[body:]]


def unpack(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a safetensors file's tensors and metadata; ``digest_problem`` checks them.

    Raises:
        TensorFileError: the file is truncated, no safetensors file, or no regular file.
    """
    if not Path(path).is_file():  # a pipe or a device may never end
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
    """Return the SHA-256 digest of tensors and metadata, 64 hexadecimal digits, independent of their order.

    It covers names, dtypes, shapes and the bytes of all values, so 0.0 and -0.0 differ. It does not cover the metadata
    entry of the digest itself.
    """
    entries = sorted((key, value) for key, value in metadata.items() if key != DIGEST)
    digest = hashlib.sha256(json.dumps(entries).encode())
    for name, value in sorted(tensors.items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(_plain(value).reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_problem(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, required: bool) -> str | None:
    """Return the reason why a file's content is not as written, or None.

    Args:
        tensors: the file's tensors.
        metadata: the file's metadata.
        required: whether a missing digest is a problem; ``pack`` always writes one.
    """
    expected = metadata.get(DIGEST)
    if expected is None:
        return "it has no digest (is it of an earlier version?)" if required else None
    if (digest := tensors_digest(tensors, metadata)) != expected:
        return f"its content has the digest {digest[:12]}, expected {expected[:12]}"
    return None


def _plain(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous()
