"""Execution of the ablation's runs: training, tracking and scoring, in parallel and within a time limit."""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from types import FrameType
from typing import Literal

import numpy as np
import torch
from parts.ablation.pool import Map
from parts.ablation.runs import NETWORK, Experiment, Run, describe_progress, finished, write_scores
from parts.ablation.shared_work import KeptFeaturesStage, KeptSamples
from parts.report_fields import machine, mean_losses
from torch.nn.modules.batchnorm import _BatchNorm

from mmdistill import Terms
from mmdistill.reference.device import choose_device
from mmdistill.reference.importing.published import load_trunks
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.tracking.settings import LocalizationSettings, published_settings
from mmdistill.reference.tracking.tracker import track_as_completed
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.sampler import Sampler, Samples
from mmdistill.reference.training.stages import SupervisedStage
from mmdistill.reference.training.train_step import freeze_batch_norm
from mmdistill.reference.training.trainer import train
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.metrics import best_overlaps, score_sequences
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.runner import run_benchmark
from mmdistill.toolkit.interruption import raise_on_signal
from mmdistill.toolkit.sequence import Boxes, CachedSequence, TrackingSequence

REUSED = "reused"
"""Folder of the samples and features that rows reuse."""

MAX_CACHED_BYTES = 2 * 10**9
"""Largest size of held-out video that a process keeps in memory."""

ON_TARGET_IOU = 0.5
"""Smallest IoU of a box that is on the target."""

CONFIDENCE = "tracker's score"
"""Key of ``confidence`` in reports."""

DEFAULT_NOT_FOUND = LocalizationSettings().not_found
"""The published score below which the target is not found."""

CONFIDENCE_PARTS = ("on target", "off target", "not found")


@dataclass(frozen=True)
class RunContext:
    """Where and until when runs are executed.

    Attributes:
        experiment: the experiment that they belong to.
        root: the experiment's folder.
        device: device for training and tracking.
        threads: threads of each process.
        end: time at which a run saves its state and stops, seconds since the epoch.
        progress: whether to show progress bars.
        reuse: whether rows reuse each other's samples and teacher's features, kept in the experiment's folder.
    """

    experiment: Experiment
    root: Path
    device: str
    threads: int
    end: float
    progress: bool
    reuse: bool = False


def add_execution_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where and how long runs are executed."""
    parser.add_argument(
        "--time-limit", type=float, default=float("inf"), help="save and stop after this many minutes; default no limit"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time; default 1")
    parser.add_argument("--threads", type=int, default=1, help="threads per run; default 1")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda; default auto")


class Stage:
    """Executes runs until the time limit.

    Attributes:
        context: where runs are executed.
        unfinished: the unfinished runs and the reasons, as text.
        failed: whether a run failed.
    """

    def __init__(self, context: RunContext, jobs: int) -> None:
        self.context, self.jobs = context, jobs
        self.unfinished: list[str] = []
        self.failed = False

    def execute(self, runs: Sequence[Run], map_runs: Map) -> bool:
        """Execute runs; return whether all are finished."""
        pending = [run for run in runs if not finished(run, self.context.root)]
        before = len(self.unfinished)
        for run, reason in zip(pending, map_runs(partial(execute_run, context=self.context), pending), strict=True):
            if not reason:
                print(f"{run.folder}: finished", flush=True)
                continue
            if reason == "stopped" and time.time() < self.context.end:
                raise KeyboardInterrupt  # the run received a signal and has saved its state
            progress = describe_progress(run, self.context.root)
            self.unfinished.append(progress + (f" ({reason})" if reason != "stopped" else ""))
            self.failed |= reason != "stopped"
        return len(self.unfinished) == before


def execute_run(run: Run, context: RunContext) -> str:
    """Execute a run from its last checkpoint; return an empty text, or the reason why it is unfinished."""
    if finished(run, context.root):
        return ""
    if time.time() >= context.end:
        return "stopped"
    torch.set_num_threads(context.threads)
    try:
        with raise_on_signal(), terminate_at(context.end):
            _train(run, context)
            done = time.time() < context.end and _track(run, context)
    except KeyboardInterrupt:
        return "stopped"
    except DataError as error:
        return str(error)
    return "" if done else "stopped"


@contextmanager
def terminate_at(end: float) -> Iterator[None]:
    """Send this process SIGTERM at a time.

    Args:
        end: seconds since the epoch.
    """

    def raise_sigterm(_number: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGTERM)

    previous = signal.signal(signal.SIGALRM, raise_sigterm)
    signal.setitimer(signal.ITIMER_REAL, min(max(end - time.time(), 1e-3), 1e8))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


class FrozenAdaptorStage(KeptFeaturesStage):
    """Freezes the batch norm of the ABF chains and adaptors together with the network's."""

    def forward(self, batch: Batch) -> Terms:
        """Return the loss terms of a batch."""
        if not any(module.training for module in self.network.modules() if isinstance(module, _BatchNorm)):
            freeze_batch_norm(self)
        return super().forward(batch)


def _train(run: Run, context: RunContext) -> None:
    if run.network is None or run.training is None:
        return
    folder = context.root / run.folder
    device = choose_device(context.device)
    torch.manual_seed(run.training.seed)
    network = TrackerNetwork(run.network)
    experiment, training = context.experiment, run.training
    trunk = experiment.find_trunk(run)
    if trunk and load_trunks(network, trunk).folded:
        training = replace(training, freeze_bn=True)
    stage: SupervisedStage | KeptFeaturesStage = SupervisedStage(network)
    if run.distillation is not None:
        teacher = load_network(context.root / run.teacher / NETWORK).to(device)
        kind = FrozenAdaptorStage if run.freeze_adaptor_bn else KeptFeaturesStage
        stage = kind(network, teacher, distillation=run.distillation)
        stage.folder = context.root / REUSED / run.teacher if context.reuse else None
    sampler: Samples = Sampler(
        training_video(experiment), run.network.crop_size, run.network.search_area, training.samples, seed=training.seed
    )
    if context.reuse and run.tracks is not None:  # a teacher's samples have settings of their own
        sampler = KeptSamples(sampler, context.root / REUSED / f"samples_{training.seed}")
    train(stage, sampler, training, folder, device=device, title=run.folder, progress=context.progress)


def _track(run: Run, context: RunContext) -> bool:
    """Track and score with the last checkpoint; return whether that is finished."""
    if run.tracks is None:
        return True
    folder = context.root / run.folder
    source = run.teacher if run.network is None else run.folder
    network = load_network(context.root / source / NETWORK).to(choose_device(context.device))
    sequences = held_out_video(context.experiment, run.tracks)
    settings = published_settings(network.settings)
    if run.not_found is not None:
        settings = replace(settings, localization=replace(settings.localization, not_found=run.not_found))
    batch_size = context.experiment.size.batch_size
    track = partial(track_as_completed, network, settings=settings, batch_size=batch_size, seed=run.seed)
    boxes = run_benchmark(track, sequences, folder / "results", progress=context.progress)
    scores = score_sequences(boxes, sequences, PROTOCOLS["synthetic"])
    figures = {
        **scores.overall.rates(),
        "attributes": {name: each.rates() for name, each in scores.attributes.items()},
        "sequences": {name: each.rates() for name, each in scores.sequences.items()},
        CONFIDENCE: confidence(
            boxes,
            read_confidences(folder / "results", sequences),
            sequences,
            not_found=settings.localization.not_found,
        ),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "loss, first and last steps": mean_losses(folder / "log.jsonl"),
        "machine": machine() | {"device": choose_device(context.device).type},
    }
    write_scores(run, context.root, figures)
    return True


@lru_cache(maxsize=1)
def training_video(experiment: Experiment) -> list[TrackingSequence]:
    """Return the training video of this process's runs."""
    return experiment.videos.training()


@lru_cache(maxsize=2)
def held_out_video(experiment: Experiment, part: Literal["validation", "test"]) -> list[TrackingSequence]:
    """Return the video that this process's runs track; each frame is made once if all fit into ``MAX_CACHED_BYTES``."""
    sequences = experiment.videos.validation() if part == "validation" else experiment.videos.test()
    frame = sequences[0].frame(0)
    size = sum(image.nbytes for image in frame if image is not None) * sum(map(len, sequences))
    return [CachedSequence(each) for each in sequences] if size <= MAX_CACHED_BYTES else sequences


def confidence(
    boxes: Mapping[str, Boxes],
    scores: Mapping[str, Array],
    sequences: Sequence[TrackingSequence],
    not_found: float = DEFAULT_NOT_FOUND,
) -> dict[str, float | None]:
    """Return the mean score on the target and off it, and the percentage of frames scored as "not found".

    The first frame and frames without a label do not count. A mean over no frame is None.

    Args:
        boxes: the tracker's boxes by sequence.
        scores: the maximum of each frame's score map by sequence.
        sequences: the labeled sequences.
        not_found: score below which the target is not found.
    """
    overlaps, maxima = [], []
    for sequence in sequences:
        overlap = best_overlaps(boxes[sequence.name], [sequence.boxes])[1:]
        labeled = ~np.isnan(overlap)
        overlaps.append(overlap[labeled])
        maxima.append(scores[sequence.name][1:][labeled])
    overlap, score = np.concatenate(overlaps), np.concatenate(maxima)
    parts = (score[overlap >= ON_TARGET_IOU], score[overlap < ON_TARGET_IOU], 100 * (score < not_found))
    return {
        name: round(float(part.mean()), 4) if part.size else None
        for name, part in zip(CONFIDENCE_PARTS, parts, strict=True)
    }


def read_confidences(folder: Path, sequences: Sequence[TrackingSequence]) -> dict[str, Array]:
    """Return each sequence's scores from a run's result files."""
    results = {each.name: json.loads((folder / f"{each.name}.json").read_text()) for each in sequences}
    return {name: np.asarray(result["scores"]) for name, result in results.items()}
