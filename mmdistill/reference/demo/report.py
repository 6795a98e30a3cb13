"""What came out of the demonstration: tables, plots, a video, and what they say of distillation.

The demonstration from beginning to end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmdistill.reference.demo.experiment import Contender, DemoSettings, Experiment
from mmdistill.reference.demo.speed import HOW, kept_frames_per_second
from mmdistill.reference.tracking.tracker import ReferenceTracker
from mmdistill.toolkit.drawing import draw_frame_pair
from mmdistill.toolkit.evaluation.formatting import format_table
from mmdistill.toolkit.evaluation.plots import plot_curves
from mmdistill.toolkit.evaluation.scores import BenchmarkScores
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.sequence import TrackingSequence
from mmdistill.toolkit.video import VideoWriter


def write_report(out: Path, contenders: Sequence[Contender], held_out: Sequence[TrackingSequence]) -> None:
    """Write tables, plots, the figures as JSON, and a video of the sequence with the most hard frames."""
    write_text(out / "table.txt", report(contenders) + "\n")
    plot_curves({contender.name: contender.scores for contender in contenders}, out)
    figures = {
        contender.name: {
            **contender.scores.overall.rates(),
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
            video.write(draw_frame_pair(hardest.frame(index), boxes, truth=hardest.boxes[index], caption=caption))


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
                *(float(value) for value in contender.scores.overall.rates().values()),
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
    return f"{scores}\n\n{HOW}\n\n{terms}\n\n{verdict(contenders[1].scores, contenders[2].scores)}"


def verdict(alone: BenchmarkScores, distilled: BenchmarkScores) -> str:
    """Say what distillation did to SR, held against its spread over the sequences."""
    difference = np.array([distilled.sequences[name].SR - scores.SR for name, scores in alone.sequences.items()])
    mean = float(difference.mean())
    error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else float("inf")
    figures = f"SR {mean:+.1f} points, standard error {error:.1f} over {len(difference)} sequences"
    if abs(mean) <= 2 * error:
        return f"Distillation made no clear difference at this size and seed: {figures}."
    return f"Distillation {'helped' if mean > 0 else 'hurt'} at this size and seed: {figures}."


def run_demo(
    out: str | Path, *, seed: int = 0, settings: DemoSettings | None = None, progress: bool = True
) -> list[Contender]:
    """Train the three, score them on held-out synthetic sequences, write plots and a video; goes on if interrupted.

    Args:
        out: folder for everything that is written.
        seed: of data, weights and tracking.
        settings: how large.
        progress: whether to show progress bars.

    Returns:
        Teacher, student alone and distilled student.

    Raises:
        Interruption: a signal asked to stop; the same call then goes on.
        DataError: the folder holds a run with other settings.
    """
    experiment = Experiment(out, seed, settings or DemoSettings(), progress=progress)
    teacher = experiment.teacher()
    alone = experiment.student("student")
    contenders = [teacher, alone, experiment.student("distilled student", teacher.network)]
    trackers = {contender.name: ReferenceTracker(contender.network, seed=seed) for contender in contenders}
    speed = kept_frames_per_second(Path(out) / "speed.json", trackers, experiment.held_out[0])
    contenders = [replace(contender, frames_per_second=speed[contender.name]) for contender in contenders]
    write_report(Path(out), contenders, experiment.held_out)
    return contenders
