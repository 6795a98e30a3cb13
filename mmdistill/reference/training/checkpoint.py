"""Training checkpoints, one safetensors file each, and the log with a line for each step."""

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

FORMAT = f"{FORMAT_PREFIX}training-4"

_ADAM_STATE = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Attributes:
        step: number of finished steps.
        first: each term's value at the first step.
        latest: each term's value at each of the latest steps.
        incidents: number of handled problems, by kind.
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
        path: the file; the previous one stays until the new one is complete.
        stage: network and training-only modules.
        optimizer: the optimizer with its moments.
        progress: the run's progress.
        identity: the run's settings as JSON; only a run with the same settings can resume.

    Raises:
        OSError: the file can't be written, for example because the disk is full.
        DataError: a value is infinite or NaN, so that no run could resume.
    """
    tensors = {f"stage.{name}": value for name, value in stage.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    not_finite = [name for name, value in tensors.items() if not value.isfinite().all()]
    if not_finite:
        raise DataError(
            f"step {progress.step - 1}: {join_names(not_finite)} became infinite or NaN; "
            "the previous checkpoint stays; try lower learning rates"
        )
    metadata = {"format": FORMAT, "identity": identity, "progress": json.dumps(asdict(progress))}
    write_tensors(path, tensors, metadata)


def load_checkpoint(
    path: str | Path, stage: nn.Module, optimizer: torch.optim.Optimizer, identity: str, *, steps: int
) -> Progress:
    """Load a run's state into its stage and optimizer and return its progress.

    The whole file is checked first; an error leaves stage and optimizer unchanged.

    Args:
        path: the file.
        stage: network and training-only modules.
        optimizer: Adam or AdamW over parameters of the stage.
        identity: the run's settings as JSON.
        steps: the run's number of steps.

    Raises:
        DataError: the file is missing, truncated, damaged or no checkpoint, belongs to a run with other settings, or
            its tensors or progress don't fit the run.
    """
    tensors, metadata = read_tensors(path)
    if (format_name := metadata.get("format", "no format")) != FORMAT:
        raise DataError(
            f"{path}: expected a training checkpoint {FORMAT!r}, got {one_line(format_name, MAX_NAME)!r}; "
            "a run can't resume from another version's checkpoint, start it again with another --out"
        )
    if metadata.get("identity") != identity:
        difference = _difference(metadata.get("identity", "{}"), identity)
        raise DataError(
            f"{path}: belongs to a run with other settings ({difference}); use the same settings or another --out"
        )
    try:
        progress = from_json(Progress, metadata.get("progress", ""))
    except ValueError as error:
        raise DataError(f"{path}: can't read its progress ({error})") from error
    if not 0 <= progress.step <= steps:
        raise DataError(f"{path}: expected a step from 0 to {steps}, the run's last step, got {progress.step}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    expected = {f"stage.{name}": value for name, value in stage.state_dict().items()}
    moments = _moments(parameters, tensors)
    check_fit(expected | moments, tensors, where=str(path))
    if mistyped := _mistyped(expected | moments, tensors):
        raise DataError(f"{path}: tensors of other types than the run's: {join_names(mistyped)}")
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        index, _, key = name.removeprefix("optimizer.").partition(".")
        # In the parameter's layout, as a fused optimizer needs it.
        state.setdefault(int(index), {})[key] = torch.empty_like(value).copy_(tensors[name])
    stage.load_state_dict(_with_prefix("stage.", tensors))
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return progress


def _moments(parameters: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the optimizer's expected state: complete for each parameter with any entry in the file.

    A parameter that never had a gradient has no entries.
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
    return [
        f"{name} {tensors[name].dtype} instead of {value.dtype}"
        for name, value in expected.items()
        if tensors[name].dtype != value.dtype
    ]


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _difference(before: str, now: str) -> str:
    """Return the first setting that differs, with both values."""
    try:
        old, new = _flat(json.loads(before)), _flat(json.loads(now))
    except (ValueError, RecursionError):
        return "unreadable settings"
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            old_value, new_value = (one_line(values.get(name), MAX_NAME) for values in (old, new))
            return f"{one_line(name, MAX_NAME)} was {old_value}, now {new_value}"
    return "unknown"


def _flat(value: object, name: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: leaf for part, inner in value.items() for key, leaf in _flat(inner, f"{name}.{part}".strip(".")).items()
    }


class StepLog:
    """Appends lines to a file, each written at once; lines that can't be written, on a full disk, are buffered.

    Args:
        path: the file; lines after the first ``steps`` are dropped: no checkpoint has their steps.
        steps: number of lines to keep.
    """

    def __init__(self, path: Path, steps: int) -> None:
        lines = path.read_bytes().splitlines(keepends=True)[:steps] if path.exists() else []
        write_text(path, b"".join(lines).decode("utf-8", "backslashreplace"))  # a damaged line does not stop the run
        self._file = path.open("ab", buffering=0)
        self._unwritten = b""

    def add(self, line: str) -> None:
        """Append a line now, or as soon as the disk has room."""
        self._unwritten += line.encode() + b"\n"
        with suppress(OSError):
            self.flush()

    def flush(self) -> None:
        """Write the buffered lines.

        Raises:
            OSError: they can't be written; the rest stays buffered.
        """
        while self._unwritten:
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]

    def close(self) -> None:
        """Write the buffered lines, if the disk has room, and close the file."""
        with suppress(OSError):
            self.flush()
        self._file.close()
