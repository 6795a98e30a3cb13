"""The comparison's runs, several at once, each in a process of its own; what is finished is told at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any

from parts.ablation.runs import (
    NETWORK,
    TEACHER_RUN,
    Place,
    Run,
    carry_out,
    finished,
    held_out_video,
    left,
    read_scores,
)
from parts.selection.watch import MEASURED, measure, recorded, recording

from mmdistill.toolkit.io import write_text


def watched(run: Run, place: Place) -> str:
    """Carry out a run while its selection is recorded, then measure it; return why it is left, as ``carry_out``."""
    folder = place.root / run.folder
    with recording(folder):
        why = carry_out(run, place)
    if not why and run.tracks is not None and not (folder / MEASURED).exists():
        found = measure(folder / NETWORK, held_out_video(place.experiment, run.tracks), place.device)
        write_text(folder / MEASURED, json.dumps({"held out": found, "training": recorded(folder)}) + "\n")
    return why


def measured(run: Run, place: Place) -> dict[str, Any] | None:
    """Return what a finished run measured; None of an unfinished one."""
    file = place.root / run.folder / MEASURED
    scores = read_scores(run, place.root)
    if scores is None or not file.exists():
        return None
    kept = ("PR", "NPR", "SR", "parameters", "loss, first and last steps", "machine")
    selection: dict[str, Any] = json.loads(file.read_text())
    return {name: scores[name] for name in kept} | selection


def carry_out_all(runs: Sequence[Run], places: Mapping[str, Place], jobs: int, told: Callable[[], object]) -> list[str]:
    """Carry out runs in this order, distilled ones once their teacher is there; return what is left, in words.

    Args:
        runs: what is to be done, the teacher among them if one is needed.
        places: by the first part of a run's folder, where.
        jobs: how many at once.
        told: called after each run.
    """

    def place_of(run: Run) -> Place:
        return places[run.folder.partition("/")[0]]

    def done(run: Run) -> bool:
        return (
            finished(run, place_of(run).root) if run.folder == TEACHER_RUN else measured(run, place_of(run)) is not None
        )

    def ready(run: Run) -> bool:
        return run.distillation is None or (place_of(run).root / TEACHER_RUN / NETWORK).exists()

    pending, missed = [run for run in runs if not done(run)], []
    in_flight: dict[Future[str], Run] = {}
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        while pending or in_flight:
            for run in [run for run in pending if ready(run)][: jobs - len(in_flight)]:
                pending.remove(run)
                in_flight[pool.submit(watched, run, place_of(run))] = run
            if not in_flight:
                break
            finished_ones, _ = wait(in_flight, return_when=FIRST_COMPLETED)
            for each in finished_ones:
                run, error = in_flight.pop(each), each.exception()
                why = each.result() if error is None else f"{type(error).__name__}: {error}"
                if why:
                    missed.append(left(run, place_of(run).root) + ("" if why == "stopped" else f" ({why})"))
                print(f"{time.strftime('%X')} {run.folder}: {why or 'finished'}", flush=True)
            told()
    return missed + [left(run, place_of(run).root) for run in pending]
