"""Network weights on disk: safetensors with the settings inside.

What a file is that was given as a network and is none: what to say of it, and what to do instead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.settings_json import from_json, to_json
from mmdistill.tensor_file import TensorFileError, digest_problem, pack, tensors_digest, unpack
from mmdistill.toolkit.data_issues import MAX_NAME, DataError, one_line, some
from mmdistill.toolkit.io import atomic_path, check_regular

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


def check_file_kind(path: str | Path, expected: str) -> None:
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


FORMAT_PREFIX = "mmdistill-"
FORMAT = f"{FORMAT_PREFIX}network-2"


_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def network_digest(network: TrackerNetwork) -> str:
    """Return 64 hexadecimal digits that identify a network by its weights, statistics and settings.

    A file's bytes don't count: a network that is saved again keeps its digest.
    """
    return tensors_digest(network.state_dict(), {"network": to_json(network.settings)})


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata to a safetensors file, whole or not at all.

    The same content gives the same bytes. A digest in the metadata lets ``read_tensors`` notice damage.
    """
    parts = pack(tensors, metadata)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())  # so that even after a power cut the name stands for a whole file


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a safetensors file's tensors and metadata.

    Raises:
        DataError: it is missing, truncated, no safetensors file, or a file of ours that was damaged.
    """
    check_file(path)
    tensors, metadata = _read_unchecked(path)
    ours = metadata.get("format", "").startswith(FORMAT_PREFIX)
    if problem := digest_problem(tensors, metadata, required=ours):
        raise DataError(f"{path}: damaged, or changed after it was written: {problem}")
    return tensors, metadata


def check_file(path: str | Path) -> None:
    """Refuse a path without a regular file, before it is opened: a pipe or a device could be read without end.

    Raises:
        DataError: there is none.
    """
    if not Path(path).exists():
        raise DataError(f"{path}: there is no such file")
    check_regular(path)


def _read_unchecked(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        return unpack(path)
    except TensorFileError as error:
        with Path(path).open("rb") as file:
            start = file.read(9)
            if start[:2] in (b"PK", b"\x80\x02") and start[8:] != b"{":  # a header may have such a length
                raise DataError(f"{path}: from PyTorch, it seems; import it with `mmdistill convert`") from error
        raise DataError(f"{path}: not a whole safetensors file, truncated perhaps ({error})") from error


def save_network(path: str | Path, network: TrackerNetwork) -> None:
    """Write a network's weights and settings."""
    metadata = {"format": FORMAT, "network": to_json(network.settings)}
    write_tensors(path, network.state_dict(), metadata)


def load_network(path: str | Path) -> TrackerNetwork:
    """Return the network of a file, in evaluation mode.

    Raises:
        DataError: the file is missing, truncated, not one of ours, or its weights don't fit its settings. Nothing is
            allocated for the network before they do.
    """
    check_file_kind(path, FORMAT)
    tensors, metadata = read_tensors(path)
    settings = network_settings(path, metadata)
    check_fit(_layout(path, settings), tensors, where=str(path))
    network = TrackerNetwork(settings)
    network.load_state_dict(tensors)
    return network.eval()


def network_settings(path: str | Path, metadata: Mapping[str, str]) -> NetworkSettings:
    """Return the settings in a weights file's metadata.

    Raises:
        DataError: they are missing or broken.
    """
    if metadata.get("format") != FORMAT:
        found = one_line(metadata.get("format", "no format"), MAX_NAME)
        raise DataError(f"{path}: expected a network of format {FORMAT!r}, got {found!r}")
    try:
        return from_json(NetworkSettings, metadata["network"])
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: its network settings can't be read ({error})") from error


def _layout(path: str | Path, settings: NetworkSettings) -> dict[str, Tensor]:
    """Return a network's state without values, for which nothing is allocated."""
    try:
        with torch.device("meta"):
            return TrackerNetwork(settings).state_dict()
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:  # of sizes beyond PyTorch's and Python's
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: its network settings can't be: {reason}") from error


def load_state(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state that must fit exactly.

    Raises:
        DataError: entries are missing, unknown, misshapen or no numbers, listed by name.
    """
    check_fit(module.state_dict(), tensors, where=where)
    module.load_state_dict(dict(tensors))


def check_fit(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Check that tensors have the names and shapes expected, no others, and values that weights can have.

    Where floats are expected, any floats will do; where counts are, integers or floats.

    Args:
        expected: a state, perhaps on the meta device: its values are not asked for.
        tensors: what is to be loaded instead.
        where: the file, for the message.

    Raises:
        DataError: entries are missing, unknown, misshapen, of another type, infinite or NaN; the first twenty of each
            are listed by name.
    """
    common = expected.keys() & tensors.keys()
    shapes = {name: (tuple(tensors[name].shape), tuple(expected[name].shape)) for name in common}
    problems = {
        "missing": expected.keys() - common,
        "unknown": tensors.keys() - common,
        "misshapen": [f"{name} {got} instead of {wanted}" for name, (got, wanted) in shapes.items() if got != wanted],
    }
    _refuse(f"{where}: weights of another architecture", problems)
    kinds = {name: _FLOATS if value.is_floating_point() else _FLOATS + _INTEGERS for name, value in expected.items()}
    mistyped = [f"{name} {value.dtype}" for name, value in tensors.items() if value.dtype not in kinds[name]]
    _refuse(f"{where}: values that weights can't have", {"of another type": mistyped})
    endless = [name for name, value in tensors.items() if not value.float().isfinite().all()]
    _refuse(f"{where}: values that weights can't have", {"infinite or NaN": endless})


def _refuse(what: str, problems: Mapping[str, Iterable[str]]) -> None:
    found = [f"{kind} {some(names, limit=20)}" for kind, names in problems.items() if names]
    if found:
        raise DataError(f"{what}: {'; '.join(found)}")
