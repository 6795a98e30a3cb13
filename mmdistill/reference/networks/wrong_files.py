"""What a file is that was given as a network and is none: what to say of it, and what to do instead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from mmdistill.reference.errors import DataError

CONVERT = "import it with `mmdistill convert`"

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "mmdistill-training": "a training run's checkpoint; {beside}",
        "mmdistill-trunk": "a ResNet trunk, which `train --trunk` takes; a network is what training makes of it",
        "mmdistill-features": "a teacher's features from a cache; give the teacher's network.safetensors",
    }
)
"""By the name of a format of ours, without its version, what such a file is."""

SIGNATURES: Mapping[bytes, str] = MappingProxyType(
    {
        b"\x93NUMPY": "one NumPy array; give a network.safetensors",
        b"\x89HDF": "an HDF5 file; give a network.safetensors",
        b"\x89PNG": "an image; give a network.safetensors",
        b"\xff\xd8\xff": "an image; give a network.safetensors",
        b"\x1f\x8b": "a compressed archive; unpack it first",
        b"version https://git-lfs": "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`",
    }
)
"""By how a file starts, what it is."""

MAX_HEADER = 2**24
"""Bytes of a safetensors header that are read for its format."""


def refuse_other_kinds(path: str | Path, expected: str) -> None:
    """Refuse a path that is recognized as something else than a network of ours.

    What is not recognized passes: reading it as a network says what is wrong.

    Args:
        path: what was given as a network.
        expected: a network's format.

    Raises:
        DataError: it is something else; the message says what, and what to do.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: a folder; {_beside(path)}")
    if not path.is_file():
        return
    with path.open("rb") as file:
        start = file.read(256)
        length = int.from_bytes(start[:8], "little")
        is_safetensors = start[8:9] == b"{" and length <= MAX_HEADER
        header = start[8:] + file.read(max(length + 8 - len(start), 0)) if is_safetensors else b""
    found = _of_format(path, header[:length], expected) if is_safetensors else _of_start(path, start)
    if found:
        raise DataError(f"{path}: {found}")


def _of_format(path: Path, header: bytes, expected: str) -> str:
    """Return what a safetensors file is, by its header; nothing of a network, or of a header that is broken."""
    try:
        metadata = json.loads(header).get("__metadata__") or {}
        name = metadata.get("format")
    except (ValueError, AttributeError, RecursionError):
        return ""
    if name in (None, "pt"):
        return f"expected a network of format {expected!r}, got 'no format', safetensors from elsewhere; {CONVERT}"
    kind = FORMATS.get(str(name).rpartition("-")[0])
    return kind.format(beside=_beside(path.parent)) if kind else ""


def _of_start(path: Path, start: bytes) -> str:
    """Return what a file is, by its first bytes; nothing if they tell nothing."""
    if not start:
        return "an empty file; give a network.safetensors"
    for signature, kind in SIGNATURES.items():
        if start.startswith(signature):
            return kind
    if start.startswith(b"PK\x03\x04"):  # a zip file: the name of its first member is at 30
        member = start[30 : 30 + int.from_bytes(start[26:28], "little")]
        if member.endswith(b".npy"):
            return f"NumPy arrays (.npz); {CONVERT}, or train with it (`train --trunk`)"
        return f"from PyTorch, it seems; {CONVERT}"
    if start[0] == 0x80 and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"from PyTorch, it seems; {CONVERT}"
    # A protocol buffer whose first field is a small number, ONNX's version.
    is_onnx = len(start) > 2 and start[0] == 0x08 and start[1] < 32 and start[2] in (0x12, 0x1A, 0x22, 0x28, 0x3A, 0x42)
    if path.suffix.lower() == ".onnx" or is_onnx:
        return (
            "an ONNX file, which onnxruntime runs (docs/export.md); give the network.safetensors it was exported from"
        )
    return _of_text(start)


def _of_text(start: bytes) -> str:
    """Return what a text file is."""
    for cut in range(4):  # the last character may be broken off
        try:
            text = start[: len(start) - cut].decode()
        except UnicodeDecodeError:
            continue
        line = text.strip().partition("\n")[0].strip()
        if line and line.isprintable() and all(character.isprintable() or character.isspace() for character in text):
            return f"a text file that starts with {line[:40]!r}; give a network.safetensors"
        return ""
    return ""


def _beside(folder: Path) -> str:
    """Return advice to give a folder's network, or that it has none."""
    network = folder / "network.safetensors"
    if network.is_file():
        return f"give {network}"
    return "give a network.safetensors, which training writes at its end"
