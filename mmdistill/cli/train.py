"""``mmdistill train``: trains one tracker on labeled data, and resumes an interrupted run."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from mmdistill.cli.alignment_option import load_alignment
from mmdistill.cli.arguments import ArgumentError
from mmdistill.cli.benchmark_options import warn_of_data_issues
from mmdistill.reference.models.config import (
    Classifier,
    CropSize,
    Depth,
    Fusion,
    NetworkSettings,
    Width,
    single_settings,
    student_settings,
    teacher_settings,
)
from mmdistill.reference.training.settings import DistillationSettings, TrackingLossSettings, TrainingSettings
from mmdistill.toolkit.data_issues import DataError, DataIssues, printable
from mmdistill.toolkit.ranges import NonNegativeInt, Range

if TYPE_CHECKING:
    from mmdistill.reference.models.tracker_network import TrackerNetwork

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
    align: Path | None = None,
    teacher: Path | None = None,
    init_from: Path | None = None,
    trunk: Path | None = None,
    depth: Depth | None = None,
    width: Width = 64,
    crop_size: CropSize | None = None,
    fusion: Literal["mpsd", "mpsd-paths", "mpsd-layer-norm", "concat", "spatial", "channel", "mdc-frs"] | None = None,
    streams: Literal[1, 2] | None = None,
    classifier: Classifier = "dimp",
    videos: Annotated[int, Range(0, 10**6)] = 500,
    scenes: Annotated[int, Range(0, 10**6)] = 0,
    num_test_pairs: NonNegativeInt = 0,
    device: str = "auto",
    quiet: bool = False,
    training: TrainingSettings = TrainingSettings(),
    tracking: TrackingLossSettings = TrackingLossSettings(),
    distillation: DistillationSettings = DistillationSettings(),
) -> None:
    """Train one tracker on labeled data; the same command resumes an interrupted run.

    Writes checkpoint.safetensors, log.jsonl (each loss term of each step) and, at the end, network.safetensors.
    To train a TIR tracker without labels, use `mmdistill adapt-tir`.

    Train a teacher, then a student by distillation:

      mmdistill train teacher --data synthetic --out runs/teacher --depth 18
      mmdistill train student --data synthetic --out runs/student --teacher runs/teacher/network.safetensors

    Train a teacher on video composed from image pairs, with a trunk trained on ImageNet and a small budget:

      mmdistill train teacher --data PAIRS --trunk resnet18.npz --depth 18 --crop-size 224 --out runs/teacher
      --training.steps 200 --training.batch-size 2

    Train on 8 GPUs, with a batch of 32 sequences in all:

      torchrun --nproc-per-node 8 -m mmdistill train teacher --data lasher:LasHeR --out runs/teacher
      --training.batch-size 32

    Args:
        stage: Tracker to train. teacher: two trunks, MDC and FRS fusion. student: one trunk, MPSD fusion. rgb, tir:
            DiMP on one modality.
        out: Folder of the run.
        data: One of: "synthetic"; a folder of aligned pairs, such as rgb and tir; a folder of labeled sequences; a copy
            of a benchmark, such as lasher:FOLDER.
        rgb: Folder of the RGB images of pairs, with --tir in place of --data.
        tir: Folder of the TIR images of pairs.
        side_by_side: Read each image of --data as RGB in the left half and TIR in the right half.
        align: File of `align`, for pairs or sequences that are not aligned. Pairs are cropped to what TIR covers. In
            sequences, TIR counts as missing where it does not cover the target.
        teacher: Network file of the trained teacher. Without it, a student is trained without distillation.
        init_from: Network file with the initial weights, of the same architecture.
        trunk: File with initial weights of the trunk: torchvision's .pth, a file of `convert`, a tracker, or an .npz
            with folded batch norm, which then stays fixed.
        depth: Depth of the ResNet trunk. By default 50 for a teacher and 18 for the others.
        width: Channels of the trunk's first convolution.
        crop_size: Side of the search area in pixels, a multiple of 16. By default that of the teacher, or 288.
        fusion: Fusion of a student. mpsd: the published block. mpsd-layer-norm, mpsd-paths: with normalized maxima.
            concat, spatial (SAF), channel (CAF): Table 3 of CMD. mdc-frs: that of the teacher. By default mpsd.
        streams: Trunks of a student: 1 for both modalities, or 2. By default 1.
        classifier: Target classifier. For atom only box estimation is trained, because its classifier learns online.
        videos: Number of synthetic or composed videos.
        scenes: Number of additional videos of a moving view in one pair each, for a folder of pairs.
        num_test_pairs: Pairs left out of training, the last by name.
        device: cpu, cuda, or auto.
        quiet: Show no progress.
        training: Steps, batch, learning rates and samples.
        tracking: Weights of the tracking loss.
        distillation: Parts of CMD, or a baseline, and their weights.
    """
    if data is None and rgb is None and tir is None:
        remedy = "; without labels: mmdistill adapt-tir" if stage == "tir" else ""
        raise ArgumentError(f"--data: expected 'synthetic', a folder or BENCHMARK:FOLDER; or --rgb and --tir{remedy}")
    if stage != "student":
        for option, value in (("teacher", teacher), ("fusion", fusion), ("streams", streams)):
            if value is not None:
                raise ArgumentError(f"--{option}: is for a student, not for {stage!r}; leave it out")

    import torch

    from mmdistill.reference.importing.published import load_trunks
    from mmdistill.reference.models.tracker_network import TrackerNetwork
    from mmdistill.reference.models.weights import load_network
    from mmdistill.reference.training.data_sources import training_sequences
    from mmdistill.reference.training.distributed import DistributedContext, join_process_group, leave_process_group
    from mmdistill.reference.training.sampler import Sampler
    from mmdistill.reference.training.stages import DistilledStage, SupervisedStage
    from mmdistill.reference.training.trainer import train as run

    chosen = join_process_group(device)
    teacher_network = load_network(teacher) if teacher is not None else None
    settings = choose_network_settings(stage, teacher_network, depth, width, crop_size, fusion, streams, classifier)
    torch.manual_seed(training.seed)
    network = TrackerNetwork(settings) if init_from is None else _load_initial(init_from, settings)
    if trunk is not None and load_trunks(network, trunk).folded:
        training = dataclasses.replace(training, freeze_bn=True)
    data_issues = DataIssues()
    sequences = training_sequences(
        data,
        count=videos,
        seed=training.seed,
        hold_out=num_test_pairs,
        scenes=scenes,
        rgb=rgb,
        tir=tir,
        side_by_side=side_by_side,
        data_issues=data_issues,
        alignment=None if align is None else load_alignment(align, quiet=not DistributedContext.current().first),
    )
    if DistributedContext.current().first:
        warn_of_data_issues(data_issues)
    sampler = Sampler(sequences, settings.crop_size, settings.search_area, training.samples, seed=training.seed)
    source = data if data is not None else f"{rgb} and {tir}"
    # Checkpoints hold this text; a run is resumed only with the same one.
    source += f", {videos} videos, {scenes} scenes, {num_test_pairs} pairs held out"
    source += f", from {init_from}" if init_from is not None else ""
    source += f", aligned by {align}" if align is not None else ""
    progress = not quiet
    if teacher_network is None:
        if stage == "student":
            logger.warning("no --teacher was given: the student is trained without distillation")
        alone = SupervisedStage(network, tracking)
        run(alone, sampler, training, out, data=source, device=chosen, title=stage, progress=progress)
    else:
        distilled = DistilledStage(network, teacher_network.to(chosen), tracking, distillation)
        title = "distilled student"
        run(distilled, sampler, training, out, data=source, device=chosen, title=title, progress=progress)
    if DistributedContext.current().first:
        print(printable(out / "network.safetensors"))
    leave_process_group()


def _load_initial(path: Path, settings: NetworkSettings) -> TrackerNetwork:
    """Return a trained network; raise DataError if its settings differ from those of the options."""
    from mmdistill.reference.models.weights import load_network

    network = load_network(path)
    for name, expected in dataclasses.asdict(settings).items():
        value = getattr(network.settings, name)
        if value != expected:
            raise DataError(f"--init-from: {name} of {path} is {value!r}, expected {expected!r} by the other options")
    return network


def choose_network_settings(
    stage: Stage,
    teacher: TrackerNetwork | None = None,
    depth: Depth | None = None,
    width: int = 64,
    crop_size: int | None = None,
    fusion: Fusion | None = None,
    streams: Literal[1, 2] | None = None,
    classifier: Classifier = "dimp",
) -> NetworkSettings:
    """Return the settings of the network to train; a student has the crops and filters of its teacher.

    Raises:
        RangeError: A size is out of its range.
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
