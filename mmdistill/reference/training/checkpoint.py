"""A training run on disk: everything that is needed to go on, in one safetensors file, written whole."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from mmdistill.reference.errors import DataError
from mmdistill.reference.networks.weights import load_state, read_tensors, some, write_tensors

FORMAT = "mmdistill-training-2"


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
    path: str | Path, stage: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress, identity: str
) -> None:
    """Write a run's state.

    Args:
        path: the file; the one before stays until the new one is whole.
        stage: network and training-only modules.
        optimiser: its moments.
        progress: how far it has come.
        identity: the run's settings as text; only a run with the same may go on from here.

    Raises:
        OSError: it can't be written, because the disk is full perhaps.
        DataError: a value is infinite or NaN, so that nothing could go on from here.
    """
    tensors = {f"stage.{name}": value for name, value in stage.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    broken = [name for name, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise DataError(
            f"step {progress.step - 1}: made {some(broken)} infinite or NaN; the checkpoint stays as it was, "
            "try lower learning rates"
        )
    metadata = {"format": FORMAT, "identity": identity, "progress": json.dumps(asdict(progress))}
    write_tensors(path, tensors, metadata)


def load_checkpoint(path: str | Path, stage: nn.Module, optimiser: torch.optim.Optimizer, identity: str) -> Progress:
    """Load a run's state into its stage and optimiser and return how far it had come.

    Raises:
        DataError: the file is missing or truncated, no checkpoint, or one of a run with other settings.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise DataError(
            f"{path}: expected a training checkpoint {FORMAT!r}, got {metadata.get('format', 'no format')!r}; "
            "one of another version can't be gone on from"
        )
    if metadata.get("identity") != identity:
        difference = _difference(metadata.get("identity", "{}"), identity)
        raise DataError(f"{path}: a run with other settings ({difference}); give the same, or another --out")
    load_state(stage, _under("stage.", tensors), where=str(path))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimiser.", tensors).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return Progress(**json.loads(metadata["progress"]))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _difference(before: str, now: str) -> str:
    """Name the first setting that differs."""
    old, new = _flat(json.loads(before)), _flat(json.loads(now))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            return f"{name} was {old.get(name)}, now {new.get(name)}"
    return "unknown"


def _flat(value: object, name: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: leaf for part, inner in value.items() for key, leaf in _flat(inner, f"{name}.{part}".strip(".")).items()
    }
