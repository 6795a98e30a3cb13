"""One training loop for every stage: log, checkpoint, stop at any moment, go on."""

from __future__ import annotations

import json
import math
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import torch
from torch import nn

from mmdistill import Terms
from mmdistill.reference.data.batches import batches
from mmdistill.reference.data.sampling import Sampler
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import write_text
from mmdistill.reference.interruption import interruption
from mmdistill.reference.networks.weights import save_network
from mmdistill.reference.progress import progress_bar
from mmdistill.reference.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from mmdistill.reference.training.optimiser import build_optimiser, learning_rate_factor
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.stage import Stage
from mmdistill.reference.training.statistics import keep_statistics

SHOWN = 20
"""Over how many of the latest steps the shown terms are averaged."""


def train(
    stage: Stage,
    sampler: Sampler,
    settings: TrainingSettings,
    folder: str | Path,
    *,
    data: str = "",
    device: torch.device | str = "cpu",
    title: str = "training",
    progress: bool = True,
) -> Progress:
    """Train a stage's network; a run that was stopped goes on from its checkpoint.

    In the folder: ``checkpoint.safetensors`` (everything), ``log.jsonl`` (each step's terms by name) and at the end
    ``network.safetensors`` (the network and its settings, what trackers load).

    Args:
        stage: what is trained, and its loss.
        sampler: where samples come from.
        settings: how.
        folder: where the run lives.
        data: what the samples are drawn from, in words; a run goes on only with the same.
        device: where to train.
        title: what the progress bar calls it.
        progress: whether to show a progress bar.

    Returns:
        How far the run has come: all the way, or as far as an interruption (Ctrl-C, SIGTERM) let it.

    Raises:
        DataError: the folder holds a run with other settings or a broken checkpoint, or the loss isn't finite.
    """
    folder, device = Path(folder), torch.device(device)
    checkpoint = folder / "checkpoint.safetensors"
    stage.prepare(settings)
    # Convolutions on a CPU, and in half precision on a GPU, are faster with channels last; values are the same.
    stage.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = build_optimiser(stage, settings)
    factor = learning_rate_factor(settings)
    identity = json.dumps({"training": asdict(settings), "data": data, **stage.settings()})
    state = Progress(0, {}, {})
    if checkpoint.exists():
        state = load_checkpoint(checkpoint, stage, optimiser, identity)
    rates = [group["lr"] for group in optimiser.param_groups]
    folder.mkdir(parents=True, exist_ok=True)
    latest: deque[dict[str, float]] = deque([state.last] if state.last else [], maxlen=SHOWN)

    with (
        interruption() as interrupted,
        _log(folder / "log.jsonl", state.step) as log,
        progress_bar(settings.steps, title, "step", initial=state.step, show=progress) as bar,
    ):
        for number, batch in enumerate(
            batches(sampler, settings.sequences, start=state.step, stop=settings.steps, workers=settings.workers),
            start=state.step,
        ):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor(number)
            if settings.statistics_until is not None and number >= settings.statistics_until:
                keep_statistics(stage.network)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
                terms = stage(batch.to(device))
            values = _step(terms, stage, optimiser, settings, number)
            latest.append(values)
            log.write(json.dumps({"step": number, **values}) + "\n")
            state = Progress(number + 1, state.first or values, _mean(list(latest)))
            bar.set_postfix({name: f"{value:.3g}" for name, value in state.last.items()}, refresh=False)
            bar.update()
            if interrupted or state.step == settings.steps or state.step % settings.checkpoint_every == 0:
                save_checkpoint(checkpoint, stage, optimiser, state, identity)
            if interrupted and state.step < settings.steps:
                print(f"{title}: stopped after step {state.step}; the same command goes on from here", file=sys.stderr)
                return state
    save_network(folder / "network.safetensors", stage.network)
    return state


def _step(
    terms: Terms, stage: nn.Module, optimiser: torch.optim.Optimizer, settings: TrainingSettings, number: int
) -> dict[str, float]:
    """Learn from a batch's terms and return their values."""
    values = {name: value.item() for name, value in terms.items()} | {"total": terms.total.item()}
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise DataError(f"step {number}: the loss isn't finite in {', '.join(broken)}; try lower learning rates")
    optimiser.zero_grad(set_to_none=True)
    terms.total.backward()  # type: ignore[no-untyped-call]
    if settings.gradient_limit:
        nn.utils.clip_grad_norm_(stage.parameters(), settings.gradient_limit)
    optimiser.step()
    return values


def _mean(values: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(value[name] for value in values) / len(values) for name in values[0]}


@contextmanager
def _log(path: Path, steps: int) -> Iterator[TextIO]:
    """Open the log for appending, without the steps that a lost run had logged but not saved."""
    lines = path.read_text().splitlines(keepends=True)[:steps] if path.exists() else []
    write_text(path, "".join(lines))
    with path.open("a", buffering=1) as log:  # a line at a time, so that it can be followed
        yield log
