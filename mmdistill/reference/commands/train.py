"""``mmdistill train``: one stage, resumed where it stopped."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from mmdistill.reference.data.sampling import Sampler
from mmdistill.reference.data.training_source import training_sequences
from mmdistill.reference.device import choose_device
from mmdistill.reference.errors import DataError
from mmdistill.reference.networks.resnet import Depth
from mmdistill.reference.networks.rgbt import NetworkSettings, RGBTNetwork, student_settings, teacher_settings
from mmdistill.reference.networks.weights import load_imagenet_trunks, load_network
from mmdistill.reference.training.loop import train as run
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.stages import AloneStage, DistillationSettings, DistilledStage
from mmdistill.reference.training.tracking_loss import TrackingLossSettings

logger = logging.getLogger(__name__)


def train(
    stage: Annotated[Literal["teacher", "student"], tyro.conf.Positional],
    /,
    data: str,
    out: Path,
    teacher: Path | None = None,
    trunk: Path | None = None,
    depth: Depth | None = None,
    width: int = 64,
    crop_size: int | None = None,
    videos: int = 500,
    hold_out: int = 0,
    device: str = "auto",
    training: TrainingSettings = TrainingSettings(),
    tracking: TrackingLossSettings = TrackingLossSettings(),
    distillation: DistillationSettings = DistillationSettings(),
) -> None:
    """Train one stage; the same command again goes on where it stopped.

    First a teacher, then a student beside it:

      mmdistill train teacher --data synthetic --out runs/teacher --depth 18
      mmdistill train student --data synthetic --out runs/student --teacher runs/teacher/network.safetensors

    With real pairs as texture, a trunk trained on ImageNet, and a small budget:

      mmdistill train teacher --data PAIRS --trunk resnet18.npz --depth 18 --crop-size 224 --out runs/teacher
      --training.steps 200 --training.sequences 2

    The folder holds checkpoint.safetensors, log.jsonl (each term of each step) and, at the end, network.safetensors.

    Args:
        stage: teacher: two trunks, MDC and FRS fusion. student: one trunk, MPSD fusion.
        data: "synthetic", a folder of aligned pairs (rgb/ and tir/), or a folder of labelled sequences.
        out: where the run lives.
        teacher: the trained teacher's network.safetensors; without it a student is trained alone.
        trunk: ImageNet weights to start the trunk from (.npz, batch norm folded); its batch norm then stays fixed.
        depth: the trunk's depth; 50 for a teacher and 18 for a student by default.
        width: channels of the trunk's first convolution.
        crop_size: side of the search area in pixels, a multiple of 16; the teacher's, or 288.
        videos: how many videos are synthesised or composed.
        hold_out: how many pairs, the last by name, are left for testing.
        device: cpu, cuda, or auto.
        training: steps, batch, learning rates and samples.
        tracking: weights of the tracking loss.
        distillation: which parts of CMD, and their weights.
    """
    place = choose_device(device)
    guide = load_network(teacher) if teacher is not None else None
    if stage == "teacher" and guide is not None:
        raise DataError("--teacher: a teacher has no teacher; leave it out, or train a student")
    try:
        settings = network_settings(stage, guide, depth, width, crop_size)
    except ValueError as error:
        raise DataError(f"--{str(error).replace('_', '-')}") from error
    if trunk is not None:
        training = dataclasses.replace(training, frozen_statistics=True)
    torch.manual_seed(training.seed)
    network = RGBTNetwork(settings)
    if trunk is not None:
        load_imagenet_trunks(network, trunk)
    sequences = training_sequences(data, count=videos, seed=training.seed, hold_out=hold_out)
    sampler = Sampler(sequences, settings.crop_size, settings.search_area, training.samples, seed=training.seed)
    source = f"{data}, {videos} videos, {hold_out} pairs held out"
    if guide is None:
        if stage == "student":
            logger.warning("no --teacher was given: the student is trained alone, without distillation")
        run(AloneStage(network, tracking), sampler, training, out, data=source, device=place, title=stage)
    else:
        distilled = DistilledStage(network, guide.to(place), tracking, distillation)
        run(distilled, sampler, training, out, data=source, device=place, title="distilled student")
    print(out / "network.safetensors")


def network_settings(
    stage: str, teacher: RGBTNetwork | None, depth: Depth | None, width: int, crop_size: int | None
) -> NetworkSettings:
    """Return the settings of the network to train; a student's crops and filters are its teacher's.

    Raises:
        ValueError: a size that no network can be built with.
    """
    if crop_size is None:
        crop_size = 288 if teacher is None else teacher.settings.crop_size
    if stage == "teacher":
        return teacher_settings(depth or 50, width, crop_size)
    own = dataclasses.replace(student_settings(width, crop_size), depth=depth or 18)
    if teacher is None:
        return own
    shared = {name: getattr(teacher.settings, name) for name in ("search_area", "filter_size", "label_sigma")}
    return dataclasses.replace(own, **shared)
