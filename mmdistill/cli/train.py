"""``mmdistill train``: one stage, resumed where it stopped."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from mmdistill.cli.benchmark_source import warn_of_data_issues
from mmdistill.reference.importing.published import load_trunks
from mmdistill.reference.models.config import (
    Classifier,
    CropSize,
    Fusion,
    NetworkSettings,
    Width,
    single_settings,
    student_settings,
    teacher_settings,
)
from mmdistill.reference.models.resnet import Depth
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.training.data_sources import training_sequences
from mmdistill.reference.training.distributed import DistributedContext, join, leave
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.stages import AloneStage, DistillationSettings, DistilledStage
from mmdistill.reference.training.tracking_loss import TrackingLossSettings
from mmdistill.reference.training.trainer import train as run
from mmdistill.toolkit.data_issues import DataError, DataIssues, printable
from mmdistill.toolkit.ranges import NonNegativeInt, Range

Stage = Literal["teacher", "student", "rgb", "tir"]

logger = logging.getLogger(__name__)


def train(
    stage: Annotated[Stage, tyro.conf.Positional],
    /,
    out: Path,
    data: str | None = None,
    rgb: Path | None = None,
    tir: Path | None = None,
    side_by_side: bool = False,
    teacher: Path | None = None,
    start: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    trunk: Path | None = None,
    depth: Depth | None = None,
    width: Width = 64,
    crop_size: CropSize | None = None,
    fusion: Literal["mpsd", "mpsd-paths", "mpsd-layer-norm", "concat", "spatial", "channel", "mdc-frs"] | None = None,
    streams: Literal[1, 2] | None = None,
    classifier: Classifier = "dimp",
    videos: Annotated[int, Range(0, 10**6)] = 500,
    scenes: Annotated[int, Range(0, 10**6)] = 0,
    hold_out: NonNegativeInt = 0,
    device: str = "auto",
    quiet: bool = False,
    training: TrainingSettings = TrainingSettings(),
    tracking: TrackingLossSettings = TrackingLossSettings(),
    distillation: DistillationSettings = DistillationSettings(),
) -> None:
    """Train one stage; the same command again goes on where it stopped.

    First a teacher, then a student beside it:

      mmdistill train teacher --data synthetic --out runs/teacher --depth 18
      mmdistill train student --data synthetic --out runs/student --teacher runs/teacher/network.safetensors

    A tracker of one modality, which learns from that side of the same data:

      mmdistill train tir --data synthetic --out runs/tir

    Without any labels, from an RGB tracker and aligned pairs (all its options: mmdistill train tir --help):

      mmdistill train tir --setting D3 --pairs PAIRS --from rgb.safetensors --out runs/tir

    On many GPUs; --training.sequences is the batch of all of them:

      torchrun --nproc-per-node 8 -m mmdistill train teacher --data lasher:LasHeR --out runs/teacher
      --training.sequences 32

    With real pairs as texture, a trunk trained on ImageNet, and a small budget:

      mmdistill train teacher --data PAIRS --trunk resnet18.npz --depth 18 --crop-size 224 --out runs/teacher
      --training.steps 200 --training.sequences 2

    The folder holds checkpoint.safetensors, log.jsonl (each term of each step) and, at the end, network.safetensors.

    Args:
        stage: teacher: two trunks, MDC and FRS fusion. student: one trunk, MPSD fusion. rgb, tir: DiMP on one modality.
        out: where the run lives.
        data: "synthetic", a folder of aligned pairs (rgb and tir, train/visible and train/infrared, ...), a folder of
            labeled sequences, or a benchmark's copy, such as lasher:FOLDER.
        rgb: folder of the RGB images of pairs, whatever its name, with --tir in place of --data.
        tir: folder of the TIR images of pairs, whatever its name.
        side_by_side: take every image of --data as RGB in the left half, TIR in the right.
        teacher: the trained teacher's network.safetensors; without it a student is trained alone.
        start: a network.safetensors to go on from, built as this one.
        trunk: trained weights to start the trunk from: torchvision's .pth, what `convert` wrote, a tracker's, or an
            .npz with batch norm folded; folded batch norm stays fixed.
        depth: the trunk's depth; 50 for a teacher and 18 for a student by default.
        width: channels of the trunk's first convolution.
        crop_size: side of the search area in pixels, a multiple of 16; the teacher's, or 288.
        fusion: how a student fuses: mpsd (the published block), mpsd-layer-norm or mpsd-paths (its maxima normalized),
            concat, spatial (SAF), channel (CAF) or mdc-frs (the teacher's); mpsd by default.
        streams: a student's trunks: 1 for both modalities, or 2; 1 by default.
        classifier: dimp, or atom: then the box estimation alone is trained, for the classifier is learned online.
        videos: how many videos are synthesized or composed.
        scenes: of a folder of pairs, how many more videos are views of one pair each, a region of which is the target.
        hold_out: how many pairs, the last by name, are left for testing.
        device: cpu, cuda, or auto.
        quiet: show no progress.
        training: steps, batch, learning rates and samples.
        tracking: weights of the tracking loss.
        distillation: which parts of CMD, or which of its rivals, and their weights.
    """
    if data is None and rgb is None and tir is None:
        raise DataError("--data: expected 'synthetic', a folder or a benchmark's copy; or --rgb and --tir")
    place = join(device)
    if stage != "student":
        for option, value in (("teacher", teacher), ("fusion", fusion), ("streams", streams)):
            if value is not None:
                raise DataError(f"--{option}: is for a student, not for {stage!r}; leave it out")
    guide = load_network(teacher) if teacher is not None else None
    settings = network_settings(stage, guide, depth, width, crop_size, fusion, streams, classifier)
    torch.manual_seed(training.seed)
    network = TrackerNetwork(settings) if start is None else _started(start, settings)
    if trunk is not None and load_trunks(network, trunk).folded:
        training = dataclasses.replace(training, frozen_statistics=True)
    data_issues = DataIssues()
    sequences = training_sequences(
        data,
        count=videos,
        seed=training.seed,
        hold_out=hold_out,
        scenes=scenes,
        rgb=rgb,
        tir=tir,
        side_by_side=side_by_side,
        data_issues=data_issues,
    )
    if DistributedContext.current().first:
        warn_of_data_issues(data_issues)
    sampler = Sampler(sequences, settings.crop_size, settings.search_area, training.samples, seed=training.seed)
    given = data if data is not None else f"{rgb} and {tir}"
    source = f"{given}, {videos} videos, {scenes} scenes, {hold_out} pairs held out"
    source += f", from {start}" if start is not None else ""
    progress = not quiet
    if guide is None:
        if stage == "student":
            logger.warning("no --teacher was given: the student is trained alone, without distillation")
        alone = AloneStage(network, tracking)
        run(alone, sampler, training, out, data=source, device=place, title=stage, progress=progress)
    else:
        distilled, title = DistilledStage(network, guide.to(place), tracking, distillation), "distilled student"
        run(distilled, sampler, training, out, data=source, device=place, title=title, progress=progress)
    if DistributedContext.current().first:
        print(printable(out / "network.safetensors"))
    leave()


def _started(start: Path, settings: NetworkSettings) -> TrackerNetwork:
    """Return a trained network to go on from; DataError where it is not the one that was asked for."""
    network = load_network(start)
    for name, value in dataclasses.asdict(settings).items():
        there = getattr(network.settings, name)
        if there != value:
            raise DataError(f"--from: {name} of {start} is {there!r}, expected {value!r} as the other options say")
    return network


def network_settings(
    stage: Stage,
    teacher: TrackerNetwork | None = None,
    depth: Depth | None = None,
    width: int = 64,
    crop_size: int | None = None,
    fusion: Fusion | None = None,
    streams: Literal[1, 2] | None = None,
    classifier: Classifier = "dimp",
) -> NetworkSettings:
    """Return the settings of the network to train; a student's crops and filters are its teacher's.

    Raises:
        RangeError: a size that no network can be built with.
    """
    if crop_size is None:
        crop_size = 288 if teacher is None else teacher.settings.crop_size
    if stage == "teacher":
        return dataclasses.replace(teacher_settings(depth or 50, width, crop_size), classifier=classifier)
    if stage != "student":
        return single_settings(stage, depth or 18, width, crop_size, classifier)
    own = dataclasses.replace(
        student_settings(width, crop_size),
        depth=depth or 18,
        fusion=fusion or "mpsd",
        streams=streams or 1,
        classifier=classifier,
    )
    if teacher is None:
        return own
    shared = {name: getattr(teacher.settings, name) for name in ("search_area", "filter_size", "label_sigma")}
    return dataclasses.replace(own, **shared)
