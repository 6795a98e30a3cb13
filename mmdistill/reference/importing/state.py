"""The tensors of a file by name, whoever wrote it: PyTorch, NumPy or safetensors."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mmdistill.reference.errors import DataError, some
from mmdistill.reference.importing.numpy_file import read_npz
from mmdistill.reference.importing.pickles import Foreign
from mmdistill.reference.importing.stored_tensors import StoredTensor
from mmdistill.reference.importing.torch_file import BROKEN, read_torch_file
from mmdistill.reference.importing.training_record import TrainingRecord, read_record
from mmdistill.reference.networks.weights import check_file, read_tensors

WRAPPERS = ("net", "state_dict")
"""Under which entry of a checkpoint its network's tensors may stand: DiMP's custom, and the common one."""


@dataclass(frozen=True)
class State:
    """A network's tensors as a file has them.

    Attributes:
        path: the file.
        tensors: by the file's names.
        foreign: the classes and functions that stand around them in a pickle, by name; none of them was run.
        format: what the metadata of a safetensors file say of its format, if anything.
        record: what the file says of its training.
    """

    path: str
    tensors: dict[str, Tensor]
    foreign: tuple[str, ...] = ()
    format: str = ""
    record: TrainingRecord = field(default_factory=TrainingRecord)


def read_state(path: str | Path) -> State:
    """Return the tensors of a PyTorch checkpoint (either container), an ``.npz`` or a safetensors file.

    The content decides, not the file's name.

    Raises:
        DataError: it is missing, truncated, or nothing of these.
    """
    check_file(path)
    with Path(path).open("rb") as stream:
        start = stream.read(9)
    # First, because a header may have a length whose bytes begin as the other formats do.
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") < Path(path).stat().st_size:
        tensors, metadata = read_tensors(path)
        return State(str(path), _without_wrapper(tensors), format=metadata.get("format", ""))
    if start.startswith(b"PK") and _is_npz(path):
        return State(str(path), _without_wrapper(read_npz(path)))
    if start.startswith((b"PK", b"\x80")):
        return _read_torch(path)
    if start[8:] == b"{":
        read_tensors(path)  # says what is wrong with it
    raise DataError(f"{path}: expected a PyTorch checkpoint, an .npz or a safetensors file, got none of them")


def _is_npz(path: str | Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except BROKEN:
        return Path(path).suffix == ".npz"
    return bool(names) and all(name.endswith(".npy") for name in names)


def _read_torch(path: str | Path) -> State:
    file = read_torch_file(path)
    entries = _entries(file.content)
    if entries is None:
        wrappers = " or ".join(repr(name) for name in WRAPPERS)
        got = _described(file.content)
        raise DataError(f"{path}: expected tensors by name, at the top or under {wrappers}, got {got}")
    stored = {str(name): entry for name, entry in entries.items() if isinstance(entry, StoredTensor)}
    if others := entries.keys() - stored.keys():
        raise DataError(f"{path}: expected tensors only, got something else under {some(map(str, others))}")
    try:
        record = read_record(file.content)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    return State(str(path), _without_wrapper(file.tensors(stored)), file.foreign, record=record)


def _entries(content: object) -> dict[Any, Any] | None:
    if not isinstance(content, dict):
        return None
    for candidate in (*(content.get(name) for name in WRAPPERS), content):
        if isinstance(candidate, dict) and any(isinstance(value, StoredTensor) for value in candidate.values()):
            return candidate
    return None


def _without_wrapper(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by the names that they have without ``DataParallel``."""
    wrapped = all(name.startswith("module.") for name in tensors)
    return {name.removeprefix("module."): value for name, value in tensors.items()} if wrapped else tensors


def _described(content: object) -> str:
    if isinstance(content, Foreign):
        return f"an object of {some([content.name])}: save its state_dict() instead"
    if isinstance(content, dict):
        return f"the entries {some(map(str, content))}" if content else "nothing"
    return f"a {type(content).__name__}"
