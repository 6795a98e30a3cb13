"""The demonstration's networks, trained and scored on the data of one seed."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmdistill.reference.data.cache import CachedSequence
from mmdistill.reference.data.sampling import Sampler
from mmdistill.reference.data.synthetic import synthetic_sequences
from mmdistill.reference.demo.settings import DemoSettings
from mmdistill.reference.evaluation.rules import RULES
from mmdistill.reference.evaluation.run import one_by_one, run_benchmark
from mmdistill.reference.evaluation.scores import BenchmarkScores, save_scores
from mmdistill.reference.evaluation.scoring import score_sequences
from mmdistill.reference.networks.settings import NetworkSettings
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.tracking.tracker import ReferenceTracker
from mmdistill.reference.training.checkpoint import Progress
from mmdistill.reference.training.loop import train
from mmdistill.reference.training.stages import AloneStage, DistillationSettings, DistilledStage

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
    """

    def __init__(self, out: str | Path, seed: int, settings: DemoSettings) -> None:
        self.out, self.seed, self.settings = Path(out), seed, settings
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
        stage: AloneStage | DistilledStage = AloneStage(network)
        if teacher is not None:
            stage = DistilledStage(network, teacher, distillation=distillation or self.settings.distillation)
        training = replace(self.settings.training, seed=self.seed)
        progress = train(stage, self._sampler, training, folder, title=name)
        logger.info(
            "%s: trained for %d steps, tracking %d held-out sequences", name, training.steps, len(self.held_out)
        )
        return self._scored(name, network, progress, folder)

    def _scored(self, name: str, network: TrackerNetwork, progress: Progress, folder: Path) -> Contender:
        boxes = run_benchmark(one_by_one(ReferenceTracker(network, seed=self.seed)), self.held_out, folder / "results")
        scores = score_sequences(boxes, self.held_out, RULES["synthetic"])
        save_scores(folder / "scores.json", scores)
        return Contender(name, network, progress, scores, boxes)
