"""The runs of killed processes, in a module that a new process can import."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Literal

import torch

from mmdistill import Terms
from mmdistill.reference.models import weights
from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import SampleSettings, TrainingSettings
from mmdistill.reference.training.stages import SupervisedStage
from mmdistill.reference.training.trainer import train

EVERY = 3
SETTINGS = TrainingSettings(steps=20, batch_size=2, checkpoint_every=EVERY, decay_every=4, warmup_steps=3)

Moment = Literal["half written", "written, not moved", "moved"]


class ChanceStage(SupervisedStage):
    """A stage that draws random numbers, so that the random state matters."""

    def forward(self, batch: Batch) -> Terms:
        return super().forward(batch._replace(proposals=batch.proposals + torch.rand_like(batch.proposals)))


def stage() -> ChanceStage:
    torch.manual_seed(3)
    return ChanceStage(TrackerNetwork(single_settings("rgb", width=4, crop_size=96)))


def sampler() -> Sampler:
    video = SyntheticSettings(size=(160, 120), target_size=(20.0, 30.0), length=4)
    samples = SampleSettings(train_frames=1, test_frames=1)
    return Sampler(synthetic_sequences(3, seed=0, settings=video), 96, 5.0, samples)


def run(folder: Path) -> None:
    """Train to the end."""
    torch.set_num_threads(1)
    train(stage(), sampler(), SETTINGS, folder, progress=False)


def run_killed_while_writing(folder: Path, checkpoint: int, moment: Moment) -> None:
    """Train until this process kills itself at a moment of writing a checkpoint, counted from 0."""
    written = 0
    sync, move = os.fsync, Path.replace

    def killed() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def fsync(file: int) -> None:
        if written == checkpoint and moment == "half written":
            os.ftruncate(file, os.fstat(file).st_size // 2)
            killed()
        sync(file)

    def replace(path: Path, target: Path) -> Path:
        nonlocal written
        if target.name != "checkpoint.safetensors":
            return move(path, target)
        if written == checkpoint and moment == "written, not moved":
            killed()
        moved = move(path, target)
        if written == checkpoint:
            killed()
        written += 1
        return moved

    weights.os.fsync = fsync  # type: ignore[attr-defined]
    Path.replace = replace  # type: ignore[method-assign, assignment]
    run(folder)
