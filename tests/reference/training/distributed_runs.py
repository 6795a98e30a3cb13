"""Training runs of two processes: the same calls of ``train`` as of one process, each with a part of every batch."""

from __future__ import annotations

import datetime
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing, nn

from mmdistill.reference.models.config import single_settings, student_settings, teacher_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork, to_tir_network
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.training.checkpoint import Progress
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.distributed import leave_process_group
from mmdistill.reference.training.sampler import Sample, Sampler
from mmdistill.reference.training.settings import (
    DistillationSettings,
    PartLearningRates,
    SampleSettings,
    TrainingSettings,
)
from mmdistill.reference.training.stages import DistilledStage, Stage, SupervisedStage
from mmdistill.reference.training.tir_cmd.stage import CrossModalStage
from mmdistill.reference.training.train_step import freeze_batch_norm
from mmdistill.reference.training.trainer import train
from mmdistill.tir_cmd import SETTINGS
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.interruption import Interruption

PROCESSES = 2
STAGES = ("alone", "distilled", "D3", "C1")
PASSES = (1, 2)
# Two processes with statistics of their own would differ from one, so batch norm keeps the start's.
WHOLE = TrainingSettings(
    steps=2,
    batch_size=8,
    freeze_bn_after=0,
    clip_grad_norm=1.0,
    clip_scope="part",
    learning_rates=PartLearningRates(*[1e-3] * 6),
)
LONG = replace(WHOLE, steps=6, batch_size=2, checkpoint_every=100)


class Disturbed:
    """A sampler with one sample that signals, one that can't be read, and one that is not finite."""

    def __init__(self, signaling: int = -1, unreadable: int = -1, broken: int = -1) -> None:
        self.sampler = sampler()
        self.signaling, self.unreadable, self.broken = signaling, unreadable, broken

    def sample(self, number: int) -> Sample:
        if number == self.signaling:
            os.kill(os.getpid(), signal.SIGTERM)
        if number == self.unreadable:
            raise DataError("lost.png: cannot read the image")
        sample = self.sampler.sample(number)
        return sample._replace(overlaps=sample.overlaps * float("nan")) if number == self.broken else sample


def sampler() -> Sampler:
    """Return samples of one reference and one test frame."""
    video = SyntheticSettings(size=(160, 120), target_size=(20.0, 30.0), length=4)
    samples = SampleSettings(train_frames=1, test_frames=1)
    return Sampler(synthetic_sequences(3, seed=0, settings=video), 96, 5.0, samples)


def stage(name: str) -> Stage:
    """Return a stage in double precision, where sums in another order are the same to many digits."""
    torch.manual_seed(1)
    made: Stage
    if name in SETTINGS:
        start = to_tir_network(TrackerNetwork(single_settings("rgb", width=4, crop_size=96)))
        made = CrossModalStage(start.double(), SETTINGS[name])
    elif name == "alone":
        made = SupervisedStage(TrackerNetwork(student_settings(width=4, crop_size=96)))
    else:
        teacher = TrackerNetwork(teacher_settings(depth=18, width=6, crop_size=96)).double()
        student = TrackerNetwork(student_settings(width=4, crop_size=96))
        made = DistilledStage(student, teacher, distillation=DistillationSettings(warmup_steps=3))
        freeze_batch_norm(made.distillation)  # SCFD's chains have batch norm of their own
    made.register_forward_pre_hook(_doubled)
    return made.double()


def start(folder: Path) -> None:
    """Run every case in two processes, each case in a folder of its own."""
    multiprocessing.spawn(_run, args=(folder,), nprocs=PROCESSES)


def _run(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=(folder / "rendezvous").as_uri(),
        rank=rank,
        world_size=PROCESSES,
        timeout=datetime.timedelta(seconds=120),
    )
    for name in STAGES:
        for passes in PASSES:
            train(stage(name), sampler(), replace(WHOLE, grad_accumulation=passes), folder / f"{name} {passes}")
    # Samples with odd numbers are the second process's.
    done: dict[str, Progress | int | str] = {}
    try:
        train(stage("alone"), Disturbed(signaling=5), LONG, folder / "stopped")  # type: ignore[arg-type]
    except Interruption as stopped:
        done["stopped"] = stopped.number
    if rank == 0:
        shutil.copytree(folder / "stopped", folder / "handed on")
    done["again"] = train(stage("alone"), sampler(), LONG, folder / "stopped")
    done["disturbed"] = train(
        stage("alone"),
        Disturbed(unreadable=3, broken=7),  # type: ignore[arg-type]
        LONG,
        folder / "disturbed",
    )
    try:
        train(stage("alone"), Disturbed(unreadable=3), replace(LONG, max_replaced=0), folder / "refused")  # type: ignore[arg-type]
    except DataError as error:
        done["refused"] = str(error)
    torch.save(done, folder / f"{rank}.pt")
    dist.barrier()
    leave_process_group()


def _doubled(module: nn.Module, arguments: tuple[Batch]) -> tuple[Batch]:
    del module
    return (arguments[0].map(Tensor.double),)
