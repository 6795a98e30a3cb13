"""The demonstration from beginning to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mmdistill.reference.demo.experiment import Contender, Experiment
from mmdistill.reference.demo.report import write_report
from mmdistill.reference.demo.settings import DemoSettings
from mmdistill.reference.demo.speed import kept_frames_per_second
from mmdistill.reference.tracking.tracker import ReferenceTracker


def run_demo(out: str | Path, *, seed: int = 0, settings: DemoSettings | None = None) -> list[Contender]:
    """Train the three, score them on held-out synthetic sequences, write plots and a video; goes on if interrupted.

    Args:
        out: folder for everything that is written.
        seed: of data, weights and tracking.
        settings: how large.

    Returns:
        Teacher, student alone and distilled student.

    Raises:
        Interruption: a signal asked to stop; the same call then goes on.
        DataError: the folder holds a run with other settings.
    """
    experiment = Experiment(out, seed, settings or DemoSettings())
    teacher = experiment.teacher()
    alone = experiment.student("student")
    contenders = [teacher, alone, experiment.student("distilled student", teacher.network)]
    trackers = {contender.name: ReferenceTracker(contender.network, seed=seed) for contender in contenders}
    speed = kept_frames_per_second(Path(out) / "speed.json", trackers, experiment.held_out[0])
    contenders = [replace(contender, frames_per_second=speed[contender.name]) for contender in contenders]
    write_report(Path(out), contenders, experiment.held_out)
    return contenders
