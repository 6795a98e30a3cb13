"""How MPSD blocks select: recorded while a student trains, and measured on held-out samples afterwards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmdistill import FusedPaths, MPSDFusion, path_selection
from mmdistill.fusion import PathSelection
from mmdistill.fusion.mpsd import path_rms
from mmdistill.reference.models.tracker_network import TrackerNetwork, flatten_frames
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.training.data_loader import collate
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import SampleSettings
from mmdistill.toolkit.sequence import TrackingSequence

LEVELS = ("level 3", "level 4")
"""The fused levels."""

RECORDED = "selection.jsonl"
"""Recorded in training, in a run's folder."""

MEASURED = "selection.json"
"""Measured afterwards."""

EVERY = 50
"""Training steps between two records."""

CALLS = 2
"""A block's calls a training step: train frames, test frames."""

SAMPLES, BATCH = 96, 8
"""Held-out samples that are measured, of four frames each, and how many at once."""


@contextmanager
def recording(folder: Path) -> Iterator[None]:
    """Record into a run's folder how its blocks select while they train; no block is changed."""
    calls: Counter[int] = Counter()

    def note(module: nn.Module, _inputs: object, output: object) -> None:
        if not isinstance(module, MPSDFusion) or not module.training or not isinstance(output, FusedPaths):
            return
        calls[id(module)] += 1
        if (calls[id(module)] - 1) % (EVERY * CALLS):
            return
        log = folder / "log.jsonl"
        step = len(log.read_text().splitlines()) if log.exists() else 0
        line = {"step": step, "channels": module.channels, **figures(path_selection(output.weights))}
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / RECORDED).open("a") as file:
            file.write(json.dumps(line) + "\n")

    handle = nn.modules.module.register_module_forward_hook(note)
    try:
        yield
    finally:
        handle.remove()


def recorded(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return by level what was recorded in training, the last record of each step."""
    file = folder / RECORDED
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    found: dict[str, list[dict[str, Any]]] = {}
    for level, channels in zip(LEVELS, sorted({line["channels"] for line in lines}), strict=False):
        by_step = {line["step"]: line for line in lines if line["channels"] == channels}
        found[level] = [{name: line[name] for name in line if name != "channels"} for line in by_step.values()]
    return found


def figures(selection: PathSelection) -> dict[str, Any]:
    """Return a selection as JSON, rounded."""

    def rounded(value: Any) -> Any:
        if isinstance(value, tuple):
            return [round(each, 4) for each in value]
        return round(value, 4) if isinstance(value, float) else value

    return {name: rounded(value) for name, value in selection._asdict().items()}


@torch.no_grad()
def measure(network_file: Path, sequences: Sequence[TrackingSequence], device: str) -> dict[str, Any]:
    """Return by level how a trained network selects on samples of these sequences, and each path's rms."""
    network: TrackerNetwork = load_network(network_file).to(device)
    settings = network.settings
    frames = SampleSettings(train_frames=2, test_frames=2)
    sampler = Sampler(sequences, settings.crop_size, settings.search_area, frames, seed=1)
    weights: list[list[torch.Tensor]] = [[], []]
    rms: list[list[torch.Tensor]] = [[], []]
    for first in range(0, SAMPLES, BATCH):
        batch = collate([sampler.sample(first + number) for number in range(BATCH)]).to(torch.device(device))
        for images in (batch.train, batch.test):
            for level, paths in enumerate(network.extract(flatten_frames(images)).paths):
                weights[level].append(paths.weights)
                rms[level].append(path_rms(paths.paths).mean(dim=1))
    return {
        name: figures(path_selection(torch.cat(weights[level])))
        | {"path rms": [round(value, 4) for value in torch.stack(rms[level]).mean(dim=0).tolist()]}
        for level, name in enumerate(LEVELS)
    }
