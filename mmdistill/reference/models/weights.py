"""Weights files: safetensors with the network's settings in the metadata.

A file of another kind is recognized, so that the error says what it is and what to do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from mmdistill.reference.models.bundled import find_weights
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.settings_json import from_json, to_json
from mmdistill.tensor_file import TensorFileError, digest_problem, pack, tensors_digest, unpack
from mmdistill.toolkit.data_issues import MAX_NAME, DataError, join_names, one_line
from mmdistill.toolkit.io import atomic_path, check_regular_file

FORMAT_PREFIX = "mmdistill-"
FORMAT = f"{FORMAT_PREFIX}network-2"

CONVERT = "import it with `mmdistill convert`"

OTHER_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "mmdistill-training": "a training run's checkpoint; {advice}",
        "mmdistill-trunk": "a ResNet trunk, for `train --trunk`, not a whole network",
        "mmdistill-features": "a teacher's cached features; give the teacher's network.safetensors",
    }
)
"""Descriptions of mmdistill's other formats, by the format's name without version."""

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
"""Descriptions of other kinds of files, by their first bytes."""

MAX_HEADER_BYTES = 2**24
"""Limit of a safetensors header that is read for its format."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def network_digest(network: TrackerNetwork) -> str:
    """Return 64 hexadecimal digits that identify a network's weights, statistics and settings.

    They do not depend on the file's bytes: a network that is saved again keeps its digest.
    """
    return tensors_digest(network.state_dict(), {"network": to_json(network.settings)})


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata to a safetensors file, atomically.

    Equal content gives equal bytes. ``read_tensors`` checks the digest in the metadata.
    """
    parts = pack(tensors, metadata)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())  # the file is complete even after a power failure


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a safetensors file's tensors and metadata.

    Raises:
        DataError: the file is missing, truncated, or no safetensors file; or a file of mmdistill has a wrong digest.
    """
    check_file(path)
    tensors, metadata = _read_without_digest(path)
    ours = metadata.get("format", "").startswith(FORMAT_PREFIX)
    if problem := digest_problem(tensors, metadata, required=ours):
        raise DataError(f"{path}: damaged, or changed after it was written: {problem}")
    return tensors, metadata


def check_file(path: str | Path) -> None:
    """Refuse a path without a regular file. Reading a pipe or a device may never end.

    Raises:
        DataError: there is no regular file.
    """
    if not Path(path).exists():
        raise DataError(f"{path}: there is no such file")
    check_regular_file(path)


def _read_without_digest(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        return unpack(path)
    except TensorFileError as error:
        with Path(path).open("rb") as file:
            start = file.read(9)
            if start[:2] in (b"PK", b"\x80\x02") and start[8:] != b"{":  # safetensors headers can have such a length
                raise DataError(f"{path}: probably a PyTorch file; {CONVERT}") from error
        raise DataError(f"{path}: not a complete safetensors file ({error})") from error


def save_network(path: str | Path, network: TrackerNetwork) -> None:
    """Write a network's weights and settings."""
    metadata = {"format": FORMAT, "network": to_json(network.settings)}
    write_tensors(path, network.state_dict(), metadata)


def load_network(path: str | Path) -> TrackerNetwork:
    """Return the network of a weights file, in evaluation mode. Nothing is allocated before the checks.

    Args:
        path: the file, or the name of a network inside the package.

    Raises:
        DataError: the file is missing, truncated, or of another kind, or its weights don't fit its settings.
    """
    path = find_weights(path)
    check_file_kind(path, FORMAT)
    tensors, metadata = read_tensors(path)
    settings = network_settings(path, metadata)
    check_fit(_empty_state(path, settings), tensors, where=str(path))
    network = TrackerNetwork(settings)
    network.load_state_dict(tensors)
    return network.eval()


def network_settings(path: str | Path, metadata: Mapping[str, str]) -> NetworkSettings:
    """Return the settings in a weights file's metadata.

    Raises:
        DataError: they are missing or invalid.
    """
    if metadata.get("format") != FORMAT:
        got = one_line(metadata.get("format", "no format"), MAX_NAME)
        raise DataError(f"{path}: expected a network of format {FORMAT!r}, got {got!r}")
    try:
        return from_json(NetworkSettings, metadata["network"])
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: its network settings are invalid ({error})") from error


def _empty_state(path: str | Path, settings: NetworkSettings) -> dict[str, Tensor]:
    """Return a network's state dict on the meta device, without values."""
    try:
        with torch.device("meta"):
            return TrackerNetwork(settings).state_dict()
    except (
        RuntimeError,
        TypeError,
        ValueError,
        ArithmeticError,
    ) as error:  # sizes beyond the limits of PyTorch and Python
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: its network settings are invalid: {reason}") from error


def load_state(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state dict that must fit exactly.

    Raises:
        DataError: entries are missing, unknown, misshapen, mistyped or not finite. They are listed by name.
    """
    check_fit(module.state_dict(), tensors, where=where)
    module.load_state_dict(dict(tensors))


def check_fit(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Check names, shapes, dtypes and values of tensors against a state dict.

    Any float dtype fits floats. Integers or floats fit counts.

    Args:
        expected: a state dict; may be on the meta device.
        tensors: the tensors to check.
        where: the file, for the message.

    Raises:
        DataError: entries are missing, unknown, misshapen, mistyped, infinite or NaN. The first twenty of each are
            listed by name.
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
    _refuse(f"{where}: invalid values", {"of another type": mistyped})
    infinite = [name for name, value in tensors.items() if not value.float().isfinite().all()]
    _refuse(f"{where}: invalid values", {"infinite or NaN": infinite})


def _refuse(message: str, problems: Mapping[str, Iterable[str]]) -> None:
    lists = [f"{kind} {join_names(names, limit=20)}" for kind, names in problems.items() if names]
    if lists:
        raise DataError(f"{message}: {'; '.join(lists)}")


def check_file_kind(path: str | Path, expected: str) -> None:
    """Refuse a path that is recognized as something else than a weights file.

    Anything unrecognized passes; reading it as a network raises the error.

    Args:
        path: the path of a network.
        expected: a network's format.

    Raises:
        DataError: it is something else. The message says what, and what to do.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: a folder; {_network_advice(path)}")
    if not path.is_file():
        return
    with path.open("rb") as file:
        start = file.read(256)
        length = int.from_bytes(start[:8], "little")
        is_safetensors = start[8:9] == b"{" and length <= MAX_HEADER_BYTES
        header = start[8:] + file.read(max(length + 8 - len(start), 0)) if is_safetensors else b""
    kind = _kind_by_format(path, header[:length], expected) if is_safetensors else _kind_by_start(path, start)
    if kind:
        raise DataError(f"{path}: {kind}")


def _kind_by_format(path: Path, header: bytes, expected: str) -> str:
    """Return the kind of a safetensors file by its header; empty for a network or a broken header."""
    try:
        metadata = json.loads(header).get("__metadata__") or {}
        name = metadata.get("format")
    except (ValueError, AttributeError, RecursionError):
        return ""
    if name in (None, "pt"):
        return f"expected a network of format {expected!r}, got 'no format', another program's safetensors; {CONVERT}"
    kind = OTHER_FORMATS.get(str(name).rpartition("-")[0])
    return kind.format(advice=_network_advice(path.parent)) if kind else ""


def _kind_by_start(path: Path, start: bytes) -> str:
    """Return the kind of a file by its first bytes; empty if unknown."""
    if not start:
        return "an empty file; give a network.safetensors"
    for signature, kind in SIGNATURES.items():
        if start.startswith(signature):
            return kind
    if start.startswith(b"PK\x03\x04"):  # a zip file; the name of its first member is at byte 30
        member = start[30 : 30 + int.from_bytes(start[26:28], "little")]
        if member.endswith(b".npy"):
            return f"NumPy arrays (.npz); {CONVERT}, or use it in training (`train --trunk`)"
        return f"probably a PyTorch file; {CONVERT}"
    if start[0] == 0x80 and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"probably a PyTorch file; {CONVERT}"
    # A protocol buffer whose first field is a small number, as ONNX's version.
    is_onnx = len(start) > 2 and start[0] == 0x08 and start[1] < 32 and start[2] in (0x12, 0x1A, 0x22, 0x28, 0x3A, 0x42)
    if path.suffix.lower() == ".onnx" or is_onnx:
        return "an ONNX file, for onnxruntime (docs/export.md); give the network.safetensors that it was exported from"
    return _kind_of_text(start)


def _kind_of_text(start: bytes) -> str:
    """Return the kind of a text file; empty if the bytes are no text."""
    for cut in range(4):  # the last character may be incomplete
        try:
            text = start[: len(start) - cut].decode()
        except UnicodeDecodeError:
            continue
        line = text.strip().partition("\n")[0].strip()
        if line and line.isprintable() and all(character.isprintable() or character.isspace() for character in text):
            return f"a text file that starts with {line[:40]!r}; give a network.safetensors"
        return ""
    return ""


def _network_advice(folder: Path) -> str:
    """Return advice to use a folder's network, or to look for one."""
    network = folder / "network.safetensors"
    if network.is_file():
        return f"give {network}"
    return "give a network.safetensors, which training writes at its end"
