"""Runs the demo and reports its results: tables, plots, a video, and the effect of distillation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmdistill.reference.demo.experiment import (
    SPEED_METHOD,
    DemoResult,
    DemoSettings,
    Experiment,
    saved_frames_per_second,
)
from mmdistill.reference.tracking.tracker import Tracker
from mmdistill.toolkit.drawing import draw_frame_pair
from mmdistill.toolkit.evaluation.formatting import format_table
from mmdistill.toolkit.evaluation.plots import plot_curves
from mmdistill.toolkit.evaluation.scores import BenchmarkScores
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.sequence import Boxes, TrackingSequence
from mmdistill.toolkit.video import VideoWriter

VIDEO_FPS = 12.0
"""Frames per second of the demo's video."""


def run_demo(
    out: str | Path, *, seed: int = 0, settings: DemoSettings | None = None, progress: bool = True
) -> list[DemoResult]:
    """Train and score teacher, student alone and distilled student; write a report.

    An interrupted demo continues with the same call.

    Args:
        out: output folder.
        seed: seed of data, weights and tracking.
        settings: the size of the demo.
        progress: whether to show progress bars.

    Returns:
        Teacher, student alone and distilled student.

    Raises:
        Interruption: a signal asked to stop.
        DataError: the folder holds a run with other settings.
    """
    experiment = Experiment(out, seed, settings or DemoSettings(), progress=progress)
    teacher = experiment.teacher()
    alone = experiment.student("student")
    results = [teacher, alone, experiment.student("distilled student", teacher.network)]
    trackers = {result.name: Tracker(result.network, seed=seed) for result in results}
    speed = saved_frames_per_second(Path(out) / "speed.json", trackers, experiment.test_sequences[0])
    results = [replace(result, frames_per_second=speed[result.name]) for result in results]
    write_demo_report(Path(out), results, experiment.test_sequences)
    return results


def write_demo_report(out: Path, results: Sequence[DemoResult], sequences: Sequence[TrackingSequence]) -> None:
    """Write tables, plots, figures as JSON, and a video of the students on the sequence with the most hard frames.

    Args:
        out: output folder.
        results: teacher, student alone and distilled student.
        sequences: the test sequences.
    """
    write_text(out / "table.txt", format_report(results) + "\n")
    plot_curves({result.name: result.scores for result in results}, out)
    figures = {
        result.name: {
            **result.scores.overall.rates(),
            "parameters": result.parameters,
            "frames_per_second": round(result.frames_per_second, 1),
            "terms": {"first": result.progress.first, "last": result.progress.last},
        }
        for result in results
    }
    write_text(out / "demo.json", json.dumps(figures, indent=2) + "\n")
    sequence = hardest_sequence(sequences)
    _, *students = results
    write_video(out / "video.gif", {student.name: student.boxes[sequence.name] for student in students}, sequence)


def write_video(path: Path, boxes: Mapping[str, Boxes], sequence: TrackingSequence, *, stride: int = 1) -> None:
    """Write a video of a sequence, RGB beside TIR, with the boxes of trackers, the label, and a legend.

    Args:
        path: the file, ``.gif`` or ``.mp4``.
        boxes: the boxes ``(T, 4)`` of each tracker by name, ``x y w h``, pixels.
        sequence: the video.
        stride: only every ``stride``-th frame is written, at the same speed of the video.
    """
    with VideoWriter(path, fps=VIDEO_FPS / stride) as video:
        for index in range(0, len(sequence), stride):
            drawn = {name: each[index] for name, each in boxes.items()}
            caption = f"frame {index + 1} of {len(sequence)}"
            video.write(draw_frame_pair(sequence.frame(index), drawn, truth=sequence.boxes[index], caption=caption))


def hardest_sequence(sequences: Sequence[TrackingSequence]) -> TrackingSequence:
    """Return the sequence with the most frames in which one modality does not show the target."""

    def hard_frames(sequence: TrackingSequence) -> int:
        flags = [sequence.attributes[name] for name in ("low_illumination", "thermal_crossover")]
        return int(np.sum(flags))

    return max(sequences, key=hard_frames)


def format_report(results: Sequence[DemoResult]) -> str:
    """Return the tables and the effect of distillation, as plain text."""
    scores = format_table(
        ["tracker", "PR", "NPR", "SR", "parameters", "frames/s"],
        [
            [
                result.name,
                *(float(value) for value in result.scores.overall.rates().values()),
                result.parameters,
                result.frames_per_second,
            ]
            for result in results
        ],
    )
    terms = format_table(
        ["tracker", "loss term", "first step", "last steps"],
        [
            [result.name, term, f"{result.progress.first[term]:.3g}", f"{result.progress.last[term]:.3g}"]
            for result in results
            for term in result.progress.first
        ],
    )
    return f"{scores}\n\n{SPEED_METHOD}\n\n{terms}\n\n{distillation_effect(results[1].scores, results[2].scores)}"


def distillation_effect(alone: BenchmarkScores, distilled: BenchmarkScores) -> str:
    """Return the mean difference in SR, its 95 % interval over the sequences, and whether the interval excludes 0.

    The interval is the mean plus and minus 2 standard errors.
    """
    differences = np.array([distilled.sequences[name].SR - scores.SR for name, scores in alone.sequences.items()])
    mean, count = float(differences.mean()), len(differences)
    title = "SR, distilled student minus student alone"
    if count < 2:
        return f"{title}: {mean:+.1f} points on one sequence; no interval."
    margin = 2 * float(differences.std(ddof=1) / np.sqrt(count))
    interval = f"95 % interval {mean - margin:+.1f} to {mean + margin:+.1f}, {count} sequences"
    if abs(mean) <= margin:
        conclusion = "The interval includes 0: no significant difference at this size and seed."
    else:
        effect = "improves" if mean > 0 else "lowers"
        conclusion = f"The interval excludes 0: distillation {effect} SR at this size and seed."
    return f"{title}: {mean:+.1f} points ({interval}).\n{conclusion}"
