"""Executes the comparison's runs in parallel processes; distilled students wait for their teacher."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any

from parts.ablation.execution import RunContext, execute_run, held_out_video
from parts.ablation.runs import NETWORK, TEACHER_RUN, Run, describe_progress, finished, read_scores
from parts.selection.recording import MEASUREMENT_FILE, measure, recorded, recording

from mmdistill.toolkit.io import write_text


def execute_and_measure(run: Run, context: RunContext) -> str:
    """Execute a run, record and measure its path selection; return the same as ``execute_run``."""
    folder = context.root / run.folder
    with recording(folder):
        reason = execute_run(run, context)
    if not reason and run.tracks is not None and not (folder / MEASUREMENT_FILE).exists():
        selection = measure(folder / NETWORK, held_out_video(context.experiment, run.tracks), context.device)
        write_text(folder / MEASUREMENT_FILE, json.dumps({"held out": selection, "training": recorded(folder)}) + "\n")
    return reason


def read_measurement(run: Run, context: RunContext) -> dict[str, Any] | None:
    """Return a finished run's scores and selection; None if it is unfinished."""
    file = context.root / run.folder / MEASUREMENT_FILE
    scores = read_scores(run, context.root)
    if scores is None or not file.exists():
        return None
    reported = ("PR", "NPR", "SR", "parameters", "loss, first and last steps", "machine")
    selection: dict[str, Any] = json.loads(file.read_text())
    return {name: scores[name] for name in reported} | selection


def execute_all(
    runs: Sequence[Run], contexts: Mapping[str, RunContext], jobs: int, after_run: Callable[[], object]
) -> list[str]:
    """Execute runs in this order, distilled ones after their teacher; return the unfinished ones as text.

    Args:
        runs: the runs, with the teacher's if one is needed.
        contexts: context by the first folder of a run's path.
        jobs: runs at the same time.
        after_run: called after each run.
    """

    def context_of(run: Run) -> RunContext:
        return contexts[run.folder.partition("/")[0]]

    def done(run: Run) -> bool:
        return (
            finished(run, context_of(run).root)
            if run.folder == TEACHER_RUN
            else read_measurement(run, context_of(run)) is not None
        )

    def ready(run: Run) -> bool:
        return run.distillation is None or (context_of(run).root / TEACHER_RUN / NETWORK).exists()

    pending, unfinished = [run for run in runs if not done(run)], []
    in_flight: dict[Future[str], Run] = {}
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        while pending or in_flight:
            for run in [run for run in pending if ready(run)][: jobs - len(in_flight)]:
                pending.remove(run)
                in_flight[pool.submit(execute_and_measure, run, context_of(run))] = run
            if not in_flight:
                break
            completed, _ = wait(in_flight, return_when=FIRST_COMPLETED)
            for each in completed:
                run, error = in_flight.pop(each), each.exception()
                reason = each.result() if error is None else f"{type(error).__name__}: {error}"
                if reason:
                    unfinished.append(
                        describe_progress(run, context_of(run).root) + ("" if reason == "stopped" else f" ({reason})")
                    )
                print(f"{time.strftime('%X')} {run.folder}: {reason or 'finished'}", flush=True)
            after_run()
    return unfinished + [describe_progress(run, context_of(run).root) for run in pending]
