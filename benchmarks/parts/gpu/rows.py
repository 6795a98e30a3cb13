"""A part of gpu_speed.py: its rows by name, and what measures each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from parts.gpu.computing import Computing
from parts.gpu.experiment import PRECISIONS, Experiment
from parts.gpu.kept_rows import Row
from parts.gpu.roofline import ceilings
from parts.gpu.tracking import Tracking
from parts.gpu.training import PARTS, Training


def rows(experiment: Experiment, ceiling: Callable[[], Mapping[str, float]]) -> dict[str, Row]:
    """Return what measures each row, in the order in which they are measured.

    Args:
        experiment: what all depend on.
        ceiling: returns the row of the ceilings, once that is measured.
    """
    tracking, computing, training = Tracking(experiment), Computing(experiment, ceiling), Training(experiment, ceiling)
    counts = experiment.videos
    found: dict[str, Row] = {"ceilings": partial(_ceilings, experiment)}
    for who in ("student", "teacher"):
        for precision in PRECISIONS:
            for count in counts:
                found[f"tracking/{who}, {precision}, {count}"] = partial(tracking.rate, who, precision, count)
    for part in ("alone", *PARTS, "all, teacher asked", "alone, batch from the host", "the teacher's own"):
        for precision in PRECISIONS:
            found[f"training/{part}, {precision}"] = partial(training.rate, part, precision)
    for who in ("student", "teacher"):
        for precision in PRECISIONS:
            for count in counts:
                found[f"network/{who}, {precision}, {count}"] = partial(computing.rate, who, precision, count)
    for count in counts[:3:2]:
        found[f"profile/tracking student, bfloat16, {count}"] = partial(tracking.profile, count)
    for part in ("alone", "all", "all, teacher asked"):
        found[f"profile/training {part}, bfloat16"] = partial(training.profile, part)
    ways = ["channels last", "weights in bfloat16"]
    if experiment.device == "cuda":
        ways += ["CUDA graph", "compiled", "all three"]
    for way in ways:
        for count in counts[:3]:
            found[f"experiments/{way}, {count}"] = partial(computing.rate, "student", "bfloat16", count, way)
    return found


def _ceilings(experiment: Experiment) -> dict[str, Any]:
    return ceilings(
        experiment.place, size=experiment.matmul, copied=experiment.copied << 20, seconds=experiment.seconds
    )
