"""A training run on disk: everything that is needed to go on, in one safetensors file, written whole.

A line for each step, also while the disk is full: what can't be written waits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from mmdistill.reference.models.weights import FORMAT_PREFIX, check_fit, read_tensors, write_tensors
from mmdistill.reference.settings_json import from_json
from mmdistill.toolkit.data_issues import MAX_NAME, DataError, join_names, one_line
from mmdistill.toolkit.io import write_text

FORMAT = f"{FORMAT_PREFIX}training-3"

_ADAM_STATE = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        step: steps done.
        first: each term's value at the first step.
        latest: each term's value at the latest steps.
        incidents: what went wrong and was dealt with, and how often.
    """

    step: int
    first: dict[str, float]
    latest: list[dict[str, float]]
    incidents: dict[str, int] = field(default_factory=dict)

    @property
    def last(self) -> dict[str, float]:
        """Each term's value, averaged over the latest steps."""
        names = self.latest[0] if self.latest else ()
        return {name: sum(values[name] for values in self.latest) / len(self.latest) for name in names}


def save_checkpoint(
    path: str | Path, stage: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, identity: str
) -> None:
    """Write a run's state.

    Args:
        path: the file; the one before stays until the new one is whole.
        stage: network and training-only modules.
        optimizer: its moments.
        progress: how far it has come.
        identity: the run's settings as text; only a run with the same may go on from here.

    Raises:
        OSError: it can't be written, because the disk is full perhaps.
        DataError: a value is infinite or NaN, so that nothing could go on from here.
    """
    tensors = {f"stage.{name}": value for name, value in stage.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    broken = [name for name, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise DataError(
            f"step {progress.step - 1}: made {join_names(broken)} infinite or NaN; the checkpoint stays as it was, "
            "try lower learning rates"
        )
    metadata = {"format": FORMAT, "identity": identity, "progress": json.dumps(asdict(progress))}
    write_tensors(path, tensors, metadata)


def load_checkpoint(
    path: str | Path, stage: nn.Module, optimizer: torch.optim.Optimizer, identity: str, *, steps: int
) -> Progress:
    """Load a run's state into its stage and optimizer and return how far it had come.

    Nothing is changed before the whole file is checked.

    Args:
        path: the file.
        stage: network and training-only modules.
        optimizer: Adam or AdamW over parameters of the stage.
        identity: the run's settings as text.
        steps: how many steps the run has in all.

    Raises:
        DataError: the file is missing, truncated or damaged, no checkpoint, of a run with other settings, or its
            tensors or progress don't fit the run.
    """
    tensors, metadata = read_tensors(path)
    if (found := metadata.get("format", "no format")) != FORMAT:
        raise DataError(
            f"{path}: expected a training checkpoint {FORMAT!r}, got {one_line(found, MAX_NAME)!r}; "
            "one of another version can't be gone on from"
        )
    if metadata.get("identity") != identity:
        difference = _difference(metadata.get("identity", "{}"), identity)
        raise DataError(f"{path}: a run with other settings ({difference}); give the same, or another --out")
    try:
        progress = from_json(Progress, metadata.get("progress", ""))
    except ValueError as error:
        raise DataError(f"{path}: its progress can't be read ({error})") from error
    if not 0 <= progress.step <= steps:
        raise DataError(f"{path}: expected a step from 0 to {steps}, the run's last, got {progress.step}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    expected = {f"stage.{name}": value for name, value in stage.state_dict().items()}
    moments = _moments(parameters, tensors)
    check_fit(expected | moments, tensors, where=str(path))
    if mistyped := _mistyped(expected | moments, tensors):
        raise DataError(f"{path}: its tensors are of other types than the run's: {join_names(mistyped)}")
    state: dict[int, dict[str, Tensor]] = {}
    for name in moments:
        index, _, key = name.removeprefix("optimizer.").partition(".")
        state.setdefault(int(index), {})[key] = tensors[name]
    stage.load_state_dict(_under("stage.", tensors))
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return progress


def _moments(parameters: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the optimizer's state as it must be: whole for each parameter that has any entry in the file.

    A parameter that never had a gradient has none.
    """
    expected: dict[str, Tensor] = {}
    for index, parameter in enumerate(parameters):
        names = {key: f"optimizer.{index}.{key}" for key in _ADAM_STATE}
        if not names.values() & tensors.keys():
            continue
        step, *moments = names.values()
        expected[step] = torch.tensor(0.0)
        expected |= dict.fromkeys(moments, parameter.detach())
    return expected


def _mistyped(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    types = {name: (tensors[name].dtype, value.dtype) for name, value in expected.items()}
    return [f"{name} {got} instead of {wanted}" for name, (got, wanted) in types.items() if got != wanted]


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _difference(before: str, now: str) -> str:
    """Name the first setting that differs."""
    try:
        old, new = _flat(json.loads(before)), _flat(json.loads(now))
    except (ValueError, RecursionError):
        return "unreadable ones"
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            was, is_now = (one_line(values.get(name), MAX_NAME) for values in (old, new))
            return f"{one_line(name, MAX_NAME)} was {was}, now {is_now}"
    return "unknown"


def _flat(value: object, name: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: leaf for part, inner in value.items() for key, leaf in _flat(inner, f"{name}.{part}".strip(".")).items()
    }


class StepLog:
    """Appends lines to a file, each at once, so that it can be followed.

    Args:
        path: the file; lines after the first ``steps``, which a lost run had logged but not saved, are dropped.
        steps: how many lines are kept.
    """

    def __init__(self, path: Path, steps: int) -> None:
        lines = path.read_bytes().splitlines(keepends=True)[:steps] if path.exists() else []
        write_text(path, b"".join(lines).decode("utf-8", "backslashreplace"))  # a damaged line stops no run
        self._file = path.open("ab", buffering=0)
        self._waiting = b""

    def add(self, line: str) -> None:
        """Append a line now, or as soon as there is room for it."""
        self._waiting += line.encode() + b"\n"
        with suppress(OSError):
            self.flush()

    def flush(self) -> None:
        """Write what is waiting.

        Raises:
            OSError: it can't be written; what was not waits on.
        """
        while self._waiting:
            self._waiting = self._waiting[self._file.write(self._waiting) :]

    def close(self) -> None:
        """Write what is waiting, if there is room for it, and close the file."""
        with suppress(OSError):
            self.flush()
        self._file.close()
