"""The demonstration's networks, trained and scored on the data of one seed.

How large the demonstration is.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray

from mmdistill.reference.models.config import NetworkSettings, student_settings, teacher_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.tracking.tracker import ReferenceTracker
from mmdistill.reference.training.checkpoint import Progress
from mmdistill.reference.training.distillation import DistillationSettings
from mmdistill.reference.training.sampler import ProposalSettings, Sampler, SampleSettings
from mmdistill.reference.training.settings import LearningRates, TrainingSettings
from mmdistill.reference.training.stages import DistilledStage, SupervisedStage
from mmdistill.reference.training.trainer import train
from mmdistill.toolkit.evaluation.metrics import score_sequences
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.runner import one_by_one, run_benchmark
from mmdistill.toolkit.evaluation.scores import BenchmarkScores, save_scores
from mmdistill.toolkit.ranges import Range, check_fields
from mmdistill.toolkit.sequence import CachedSequence


def _small(settings: NetworkSettings) -> NetworkSettings:
    """Return the settings for small crops, with labels as many cells wide as on the published 288-pixel crops."""
    return replace(settings, crop_size=128, label_sigma=settings.label_sigma * 288 / 128)


@dataclass(frozen=True)
class DemoSettings:
    """How large the demonstration is: what two CPU cores do in a few minutes.

    Attributes:
        teacher: a wide two-stream network.
        student: a narrow one-stream network.
        training: of all three.
        distillation: CMD, as ``mmdistill train student`` has it.
        video: what the synthetic video is like.
        train_sequences: sequences to learn from.
        test_sequences: held-out sequences to score on.
    """

    teacher: NetworkSettings = field(default_factory=lambda: _small(teacher_settings(depth=18, width=20)))
    student: NetworkSettings = field(default_factory=lambda: _small(student_settings(width=8)))
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            steps=220,
            batch_size=8,
            learning_rates=LearningRates(*[2e-3] * 6),  # every part starts from random weights
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
    test_sequences: Annotated[int, Range(1, 10**6)] = 24

    def __post_init__(self) -> None:
        check_fields(self)


logger = logging.getLogger(__name__)

HELD_OUT = 1_000_000
"""Added to the seed for the test sequences, so that none is ever trained on."""


@dataclass(frozen=True)
class Contender:
    """One of the three networks, trained and scored.

    Attributes:
        name: what the table calls it.
        network: in evaluation mode.
        progress: each loss term's first and last value.
        scores: on the held-out sequences.
        boxes: what it predicted, by sequence.
        frames_per_second: how fast it tracks, measured together with the others; 0 before that.
    """

    name: str
    network: TrackerNetwork
    progress: Progress
    scores: BenchmarkScores
    boxes: dict[str, NDArray[np.float64]]
    frames_per_second: float = 0.0

    @property
    def parameters(self) -> int:
        """How many parameters it tracks with."""
        return sum(parameter.numel() for parameter in self.network.parameters())


class Experiment:
    """The data of one seed, and what is trained and scored on it.

    Args:
        out: folder for everything that is written; each network has a folder of its own in it.
        seed: of data, weights and tracking; the same seed gives the same scores.
        settings: how large.
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
        self.held_out = synthetic_sequences(settings.test_sequences, seed=seed + HELD_OUT, settings=settings.video)

    def teacher(self) -> Contender:
        """Return the teacher, trained and scored."""
        return self._contender("teacher", self.settings.teacher, None, None)

    def student(
        self, name: str, teacher: TrackerNetwork | None = None, distillation: DistillationSettings | None = None
    ) -> Contender:
        """Return a student, trained alone or with a teacher, and scored.

        All students of a seed start from the same weights and see the same samples.
        """
        return self._contender(name, self.settings.student, teacher, distillation)

    def _contender(
        self,
        name: str,
        network_settings: NetworkSettings,
        teacher: TrackerNetwork | None,
        distillation: DistillationSettings | None,
    ) -> Contender:
        folder = self.out / name.replace(" ", "_")
        torch.manual_seed(self.seed)
        network = TrackerNetwork(network_settings)
        stage: SupervisedStage | DistilledStage = SupervisedStage(network)
        if teacher is not None:
            stage = DistilledStage(network, teacher, distillation=distillation or self.settings.distillation)
        training = replace(self.settings.training, seed=self.seed)
        progress = train(stage, self._sampler, training, folder, title=name, progress=self.progress)
        logger.info(
            "%s: trained for %d steps, tracking %d held-out sequences", name, training.steps, len(self.held_out)
        )
        return self._scored(name, network, progress, folder)

    def _scored(self, name: str, network: TrackerNetwork, progress: Progress, folder: Path) -> Contender:
        run = one_by_one(ReferenceTracker(network, seed=self.seed))
        boxes = run_benchmark(run, self.held_out, folder / "results", progress=self.progress)
        scores = score_sequences(boxes, self.held_out, PROTOCOLS["synthetic"])
        save_scores(folder / "scores.json", scores)
        return Contender(name, network, progress, scores, boxes)
