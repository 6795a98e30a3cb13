"""Trains, scores and times the demo's three networks on the synthetic data of one seed."""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray

from mmdistill.reference.models.config import NetworkSettings, student_settings, teacher_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.tracking.tracker import Tracker
from mmdistill.reference.training.checkpoint import Progress
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import (
    DistillationSettings,
    PartLearningRates,
    ProposalSettings,
    SampleSettings,
    TrainingSettings,
)
from mmdistill.reference.training.stages import DistilledStage, SupervisedStage
from mmdistill.reference.training.trainer import train
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.metrics import score_sequences
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.runner import run_benchmark, track_sequences
from mmdistill.toolkit.evaluation.scores import BenchmarkScores, save_scores
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.ranges import Range, check_fields
from mmdistill.toolkit.sequence import CachedSequence, TrackingSequence
from mmdistill.toolkit.tracking_loop import TrackerProtocol

logger = logging.getLogger(__name__)

TEST_SEED_OFFSET = 1_000_000
"""Added to the seed for the test sequences, so that none of them is a training sequence."""

SPEED_ROUNDS = 5
"""Timed rounds over the video, after one warm-up round."""

SPEED_METHOD = (
    "frames/s: tracking alone, without reading images and without the first frame; median of "
    f"{SPEED_ROUNDS} rounds over one video after a warm-up round; the trackers take turns at each frame"
)


def _small(settings: NetworkSettings) -> NetworkSettings:
    """Return the settings with 128-pixel crops; labels keep their width in cells of the published 288-pixel crops."""
    return replace(settings, crop_size=128, label_sigma=settings.label_sigma * 288 / 128)


@dataclass(frozen=True)
class DemoSettings:
    """The size of the demo: a few minutes on two CPU cores.

    Attributes:
        teacher: a wide two-stream network.
        student: a narrow one-stream network.
        training: settings of all three trainings.
        distillation: CMD, with the defaults of ``mmdistill train student``.
        video: settings of the synthetic video.
        train_sequences: number of training sequences.
        test_sequences: number of held-out test sequences.
    """

    teacher: NetworkSettings = field(default_factory=lambda: _small(teacher_settings(depth=18, width=20)))
    student: NetworkSettings = field(default_factory=lambda: _small(student_settings(width=8)))
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            steps=220,
            batch_size=8,
            learning_rates=PartLearningRates(*[2e-3] * 6),  # every part starts from random weights
            warmup_steps=20,
            decay_every=0,
            clip_grad_norm=10.0,
            checkpoint_every=100,
            samples=SampleSettings(train_frames=2, test_frames=2, proposals=ProposalSettings(count=16)),
        )
    )
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    video: SyntheticSettings = field(default_factory=lambda: SyntheticSettings(length=40))
    train_sequences: Annotated[int, Range(1, 10**6)] = 150
    test_sequences: Annotated[int, Range(1, 10**6)] = 60

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class DemoResult:
    """A trained and scored network.

    Attributes:
        name: its name in tables and plots.
        network: the network, in evaluation mode.
        progress: each loss term's first and last value.
        scores: on the test sequences.
        boxes: ``(T, 4)`` by test sequence, ``x y w h``, pixels.
        frames_per_second: its tracking speed; 0 before it is measured.
    """

    name: str
    network: TrackerNetwork
    progress: Progress
    scores: BenchmarkScores
    boxes: dict[str, NDArray[np.float64]]
    frames_per_second: float = 0.0

    @property
    def parameters(self) -> int:
        """The network's number of parameters."""
        return sum(parameter.numel() for parameter in self.network.parameters())


class Experiment:
    """The data of one seed, and the networks trained and scored on it.

    Args:
        out: output folder, with a folder per network.
        seed: seed of data, weights and tracking; the same seed gives the same scores.
        settings: the size of the demo.
        progress: whether to show progress bars.
    """

    def __init__(self, out: str | Path, seed: int, settings: DemoSettings, *, progress: bool = True) -> None:
        self.out, self.seed, self.settings, self.progress = Path(out), seed, settings, progress
        videos = synthetic_sequences(settings.train_sequences, seed=seed, settings=settings.video)
        self._sampler = Sampler(
            [CachedSequence(video) for video in videos],
            settings.student.crop_size,
            settings.student.search_area,
            settings.training.samples,
            seed=seed,
        )
        self.test_sequences = synthetic_sequences(
            settings.test_sequences, seed=seed + TEST_SEED_OFFSET, settings=settings.video
        )

    def teacher(self) -> DemoResult:
        """Return the teacher, trained and scored."""
        return self._trained("teacher", self.settings.teacher, None, None)

    def student(
        self, name: str, teacher: TrackerNetwork | None = None, distillation: DistillationSettings | None = None
    ) -> DemoResult:
        """Return a student, trained alone or with a teacher, and scored.

        All students of a seed start from the same weights and see the same samples.
        """
        return self._trained(name, self.settings.student, teacher, distillation)

    def _trained(
        self,
        name: str,
        network_settings: NetworkSettings,
        teacher: TrackerNetwork | None,
        distillation: DistillationSettings | None,
    ) -> DemoResult:
        folder = self.out / name.replace(" ", "_")
        torch.manual_seed(self.seed)
        network = TrackerNetwork(network_settings)
        stage: SupervisedStage | DistilledStage = SupervisedStage(network)
        if teacher is not None:
            stage = DistilledStage(network, teacher, distillation=distillation or self.settings.distillation)
        training = replace(self.settings.training, seed=self.seed)
        progress = train(stage, self._sampler, training, folder, title=name, progress=self.progress)
        logger.info(
            "%s: trained for %d steps, tracking %d test sequences", name, training.steps, len(self.test_sequences)
        )
        return self._scored(name, network, progress, folder)

    def _scored(self, name: str, network: TrackerNetwork, progress: Progress, folder: Path) -> DemoResult:
        track = partial(track_sequences, Tracker(network, seed=self.seed))
        boxes = run_benchmark(track, self.test_sequences, folder / "results", progress=self.progress)
        scores = score_sequences(boxes, self.test_sequences, PROTOCOLS["synthetic"])
        save_scores(folder / "scores.json", scores)
        return DemoResult(name, network, progress, scores, boxes)


def frames_per_second(
    trackers: Mapping[str, TrackerProtocol],
    video: TrackingSequence,
    *,
    rounds: int = SPEED_ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return each tracker's frames per second.

    The trackers take turns at each frame, and the first one changes from frame to frame. So other work of the machine
    slows all trackers alike.

    Args:
        trackers: by name.
        video: two frames or more, which are all held in memory.
        rounds: timed rounds over the video, after one warm-up round; each frame counts with its median.
        clock: returns seconds.
    """
    frames = [video.frame(index) for index in range(len(video))]
    names = list(trackers)
    times = {name: [list[float]() for _ in frames[1:]] for name in names}
    for number in range(rounds + 1):
        for tracker in trackers.values():
            tracker.init(frames[0], video.boxes[0])
        for index, frame in enumerate(frames[1:]):
            first = (index + number) % len(names)
            for name in names[first:] + names[:first]:
                start = clock()
                trackers[name].update(frame)
                if number:
                    times[name][index].append(clock() - start)
    seconds = {name: sum(map(statistics.median, per_frame)) for name, per_frame in times.items()}
    return {name: (len(frames) - 1) / max(seconds[name], 1e-9) for name in names}


def saved_frames_per_second(
    path: Path, trackers: Mapping[str, TrackerProtocol], video: TrackingSequence
) -> Mapping[str, float]:
    """Return the speeds in a file of an earlier call, or measure them and write the file.

    Raises:
        DataError: the file is malformed, or of other trackers.
    """
    if path.exists():
        try:
            saved = {
                str(name): float(value) for name, value in json.loads(path.read_text())["frames_per_second"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: expected frames per second by tracker in JSON; remove it") from error
        if saved.keys() != trackers.keys():
            raise DataError(f"{path}: expected {', '.join(trackers)}, got {', '.join(saved)}; remove it")
        return saved
    measured = frames_per_second(trackers, video)
    rounded = {name: round(value, 2) for name, value in measured.items()}
    write_text(path, json.dumps({"frames_per_second": rounded, "how": SPEED_METHOD}, indent=2) + "\n")
    return rounded
