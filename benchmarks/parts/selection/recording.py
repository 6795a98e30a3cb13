"""Records the path weights of MPSD blocks during training, and measures them on held-out samples."""

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

RECORD_FILE = "selection.jsonl"
"""File of the training's records in a run's folder."""

MEASUREMENT_FILE = "selection.json"
"""File of the measurement after training."""

RECORD_INTERVAL = 50
"""Training steps between records."""

CALLS_PER_STEP = 2
"""Calls of a block per training step: train frames and test frames."""

NUM_SAMPLES, BATCH_SIZE = 96, 8
"""Number of held-out samples, of four frames each, and samples per batch."""


@contextmanager
def recording(folder: Path) -> Iterator[None]:
    """Write the path weights of training MPSD blocks into the run's folder; does not change results."""
    calls: Counter[int] = Counter()

    def record(module: nn.Module, _inputs: object, output: object) -> None:
        if not isinstance(module, MPSDFusion) or not module.training or not isinstance(output, FusedPaths):
            return
        calls[id(module)] += 1
        if (calls[id(module)] - 1) % (RECORD_INTERVAL * CALLS_PER_STEP):
            return
        log = folder / "log.jsonl"
        step = len(log.read_text().splitlines()) if log.exists() else 0
        line = {"step": step, "channels": module.channels, **figures(path_selection(output.weights))}
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / RECORD_FILE).open("a") as file:
            file.write(json.dumps(line) + "\n")

    handle = nn.modules.module.register_module_forward_hook(record)
    try:
        yield
    finally:
        handle.remove()


def recorded(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the training's records by level, the last of each step."""
    file = folder / RECORD_FILE
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    by_level: dict[str, list[dict[str, Any]]] = {}
    for level, channels in zip(LEVELS, sorted({line["channels"] for line in lines}), strict=False):
        by_step = {line["step"]: line for line in lines if line["channels"] == channels}
        by_level[level] = [{name: line[name] for name in line if name != "channels"} for line in by_step.values()]
    return by_level


def figures(selection: PathSelection) -> dict[str, Any]:
    """Return a selection as JSON, rounded to 4 decimals."""

    def rounded(value: Any) -> Any:
        if isinstance(value, tuple):
            return [round(each, 4) for each in value]
        return round(value, 4) if isinstance(value, float) else value

    return {name: rounded(value) for name, value in selection._asdict().items()}


@torch.no_grad()
def measure(network_file: Path, sequences: Sequence[TrackingSequence], device: str) -> dict[str, Any]:
    """Return by level a trained network's path selection and each path's rms on samples of these sequences."""
    network: TrackerNetwork = load_network(network_file).to(device)
    settings = network.settings
    frames = SampleSettings(train_frames=2, test_frames=2)
    sampler = Sampler(sequences, settings.crop_size, settings.search_area, frames, seed=1)
    weights: list[list[torch.Tensor]] = [[], []]
    rms: list[list[torch.Tensor]] = [[], []]
    for first in range(0, NUM_SAMPLES, BATCH_SIZE):
        batch = collate([sampler.sample(first + number) for number in range(BATCH_SIZE)]).to(torch.device(device))
        for images in (batch.train, batch.test):
            for level, paths in enumerate(network.extract(flatten_frames(images)).paths):
                weights[level].append(paths.weights)
                rms[level].append(path_rms(paths.paths).mean(dim=1))
    return {
        name: figures(path_selection(torch.cat(weights[level])))
        | {"path rms": [round(value, 4) for value in torch.stack(rms[level]).mean(dim=0).tolist()]}
        for level, name in enumerate(LEVELS)
    }
