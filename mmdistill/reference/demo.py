"""The main job, small: a teacher, a student alone and the same student distilled, trained and scored side by side."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmdistill.reference.data.cache import CachedSequence
from mmdistill.reference.data.proposals import ProposalSettings
from mmdistill.reference.data.sampling import Sampler, SampleSettings
from mmdistill.reference.data.sequence import TrackingSequence
from mmdistill.reference.data.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.drawing.annotate import annotate
from mmdistill.reference.drawing.video_writer import VideoWriter
from mmdistill.reference.evaluation.plots import plot_curves
from mmdistill.reference.evaluation.rules import RULES
from mmdistill.reference.evaluation.run import one_by_one, run_benchmark
from mmdistill.reference.evaluation.scores import BenchmarkScores, save_scores
from mmdistill.reference.evaluation.scoring import score_sequences
from mmdistill.reference.evaluation.speed import read_speed
from mmdistill.reference.evaluation.table import format_table
from mmdistill.reference.files import write_text
from mmdistill.reference.networks.settings import NetworkSettings, student_settings, teacher_settings
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.tracking.tracker import ReferenceTracker
from mmdistill.reference.training.checkpoint import Progress
from mmdistill.reference.training.loop import train
from mmdistill.reference.training.settings import LearningRates, TrainingSettings
from mmdistill.reference.training.stages import AloneStage, DistillationSettings, DistilledStage

logger = logging.getLogger(__name__)

HELD_OUT = 1_000_000
"""Added to the seed for the test sequences, so that none is ever trained on."""


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
            sequences=8,
            learning_rates=LearningRates(*[2e-3] * 6),  # every part starts from random weights
            warmup_steps=20,
            decay_every=0,
            gradient_limit=10.0,
            checkpoint_every=100,
            samples=SampleSettings(train_frames=2, test_frames=2, proposals=ProposalSettings(count=16)),
        )
    )
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    video: SyntheticSettings = field(default_factory=lambda: SyntheticSettings(length=40))
    train_sequences: int = 150
    test_sequences: int = 24


@dataclass(frozen=True)
class Contender:
    """One of the three networks, trained and scored.

    Attributes:
        name: what the table calls it.
        network: in evaluation mode.
        progress: each loss term's first and last value.
        scores: on the held-out sequences.
        boxes: what it predicted, by sequence.
        frames_per_second: how fast it tracked, this run on this machine.
    """

    name: str
    network: TrackerNetwork
    progress: Progress
    scores: BenchmarkScores
    boxes: dict[str, NDArray[np.float64]]
    frames_per_second: float

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

    def teacher(self) -> Contender | None:
        """Return the teacher, trained and scored; None where an interruption came first."""
        return self._contender("teacher", self.settings.teacher, None, None)

    def student(
        self, name: str, teacher: TrackerNetwork | None = None, distillation: DistillationSettings | None = None
    ) -> Contender | None:
        """Return a student, trained alone or with a teacher, and scored; None where an interruption came first.

        All students of a seed start from the same weights and see the same samples.
        """
        return self._contender(name, self.settings.student, teacher, distillation)

    def _contender(
        self,
        name: str,
        network_settings: NetworkSettings,
        teacher: TrackerNetwork | None,
        distillation: DistillationSettings | None,
    ) -> Contender | None:
        folder = self.out / name.replace(" ", "_")
        torch.manual_seed(self.seed)
        network = TrackerNetwork(network_settings)
        stage: AloneStage | DistilledStage = AloneStage(network)
        if teacher is not None:
            stage = DistilledStage(network, teacher, distillation=distillation or self.settings.distillation)
        training = replace(self.settings.training, seed=self.seed)
        progress = train(stage, self._sampler, training, folder, title=name)
        if progress.step < training.steps:
            return None
        logger.info(
            "%s: trained for %d steps, tracking %d held-out sequences", name, training.steps, len(self.held_out)
        )
        return self._scored(name, network, progress, folder)

    def _scored(self, name: str, network: TrackerNetwork, progress: Progress, folder: Path) -> Contender:
        boxes = run_benchmark(one_by_one(ReferenceTracker(network, seed=self.seed)), self.held_out, folder / "results")
        scores = score_sequences(boxes, self.held_out, RULES["synthetic"])
        save_scores(folder / "scores.json", scores)
        speed = read_speed(folder / "results", boxes)
        assert speed is not None
        return Contender(name, network, progress, scores, boxes, speed.frames_per_second)


def run_demo(out: str | Path, *, seed: int = 0, settings: DemoSettings | None = None) -> list[Contender] | None:
    """Train the three, score them on held-out synthetic sequences, write plots and a video; goes on if interrupted.

    Args:
        out: folder for everything that is written.
        seed: of data, weights and tracking.
        settings: how large.

    Returns:
        Teacher, student alone and distilled student; None where an interruption came first.

    Raises:
        DataError: the folder holds a run with other settings.
    """
    experiment = Experiment(out, seed, settings or DemoSettings())
    teacher = experiment.teacher()
    alone = experiment.student("student") if teacher else None
    distilled = experiment.student("distilled student", teacher.network) if teacher and alone else None
    if teacher is None or alone is None or distilled is None:
        return None
    contenders = [teacher, alone, distilled]
    write_report(Path(out), contenders, experiment.held_out)
    return contenders


def write_report(out: Path, contenders: Sequence[Contender], held_out: Sequence[TrackingSequence]) -> None:
    """Write tables, plots, the figures as JSON, and a video of the sequence with the most hard frames."""
    write_text(out / "table.txt", report(contenders) + "\n")
    plot_curves({contender.name: contender.scores for contender in contenders}, out)
    figures = {
        contender.name: {
            **contender.scores.overall.figures(),
            "parameters": contender.parameters,
            "frames_per_second": round(contender.frames_per_second, 1),
            "terms": {"first": contender.progress.first, "last": contender.progress.last},
        }
        for contender in contenders
    }
    write_text(out / "demo.json", json.dumps(figures, indent=2) + "\n")
    hardest = max(held_out, key=_hard_frames)
    with VideoWriter(out / "video.gif", fps=12) as video:
        for index in range(len(hardest)):
            boxes = {contender.name: contender.boxes[hardest.name][index] for contender in contenders}
            caption = f"{hardest.name} {index + 1}"
            video.write(annotate(hardest.frame(index), boxes, truth=hardest.boxes[index], caption=caption))


def _hard_frames(sequence: TrackingSequence) -> int:
    """Count the frames in which one modality does not show the target."""
    flags = [sequence.attributes[name] for name in ("low_illumination", "thermal_crossover")]
    return int(np.sum(flags))


def report(contenders: Sequence[Contender]) -> str:
    """Return the tables and what they say of distillation, as plain text."""
    scores = format_table(
        ["tracker", "PR", "NPR", "SR", "parameters", "frames/s"],
        [
            [
                contender.name,
                *(float(value) for value in contender.scores.overall.figures().values()),
                contender.parameters,
                contender.frames_per_second,
            ]
            for contender in contenders
        ],
    )
    terms = format_table(
        ["tracker", "loss term", "first", "last"],
        [
            [contender.name, term, f"{contender.progress.first[term]:.3g}", f"{contender.progress.last[term]:.3g}"]
            for contender in contenders
            for term in contender.progress.first
        ],
    )
    return f"{scores}\n\n{terms}\n\n{verdict(contenders[1].scores, contenders[2].scores)}"


def verdict(alone: BenchmarkScores, distilled: BenchmarkScores) -> str:
    """Say what distillation did to SR, held against its spread over the sequences."""
    difference = np.array([distilled.sequences[name].SR - scores.SR for name, scores in alone.sequences.items()])
    mean = float(difference.mean())
    error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else float("inf")
    figures = f"SR {mean:+.1f} points, standard error {error:.1f} over {len(difference)} sequences"
    if abs(mean) <= 2 * error:
        return f"Distillation made no clear difference at this size and seed: {figures}."
    return f"Distillation {'helped' if mean > 0 else 'hurt'} at this size and seed: {figures}."
