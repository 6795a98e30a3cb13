"""Processes that execute the ablation's runs, and how they end: told first, killed if they do not end in time."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from types import FrameType

from parts.ablation.runs import Run

Map = Callable[[Callable[[Run], str], Iterable[Run]], Iterator[str]]
"""Executes runs and yields for each an empty text, or the reason why it is unfinished."""

GRACE_SECONDS = 60.0
"""Time in which a process finishes its step, saves it and ends its loader's workers."""

NOT_STOPPED = "a process did not stop in time and was killed"
"""Reason of the runs that are lost with it."""

_stop_events: list[Event] = []
"""In a process of the pool, the event that all of its processes share."""


@contextmanager
def pool(jobs: int, end: float = float("inf"), grace: float = GRACE_SECONDS) -> Iterator[Map]:
    """Yield a ``Map`` that executes runs in this process (one job) or in a pool of processes.

    After SIGTERM no process of the pool starts another run. Each finishes its step, saves it and ends. Processes that
    still run after the grace time are killed.

    Args:
        jobs: number of processes.
        end: time at which runs stop by themselves, seconds since the epoch.
        grace: seconds from a signal, or from ``end``, until processes are killed.
    """
    if jobs == 1:
        yield map
        return

    context = get_context("spawn")
    stop = context.Event()

    def forward_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        for child in active_children():
            child.terminate()
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, forward_signal)  # Ctrl-C reaches the processes by itself
    try:
        with ProcessPoolExecutor(jobs, context, set_stop_event, (stop,)) as executor:
            try:
                yield lambda function, runs: _results(executor, stop, function, runs, end + grace)
            except BaseException:
                stop.set()  # the executor has queued runs that can't be cancelled
                processes = active_children()
                executor.shutdown(wait=False, cancel_futures=True)
                end_processes(processes, grace)
                raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def _results(
    executor: ProcessPoolExecutor, stop: Event, function: Callable[[Run], str], runs: Iterable[Run], end: float
) -> Iterator[str]:
    """Yield each run's result; after the end, kill the processes that still run."""
    if stop.is_set():  # by an earlier call that killed them
        yield from ("stopped" for _ in runs)
        return
    futures = [executor.submit(run_unless_stopped, function, run) for run in runs]
    for future in futures:
        if not _is_done(future, end):
            stop.set()
            processes = active_children()
            executor.shutdown(wait=False, cancel_futures=True)
            end_processes(processes, 0)
        yield NOT_STOPPED if stop.is_set() and not _has_result(future) else future.result()


def _is_done(future: Future[str], end: float) -> bool:
    """Wait for a result until a time, seconds since the epoch; return whether it is there."""
    timeout = None if end == float("inf") else max(end - time.time(), 0)
    return bool(wait([future], timeout).done)


def _has_result(future: Future[str]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def end_processes(processes: Sequence[BaseProcess], grace: float) -> None:
    """Wait until processes have ended; kill those that have not after some seconds."""
    end = time.monotonic() + grace
    for process in processes:
        process.join(max(end - time.monotonic(), 0))
    for process in processes:
        if process.is_alive():
            process.kill()


def set_stop_event(event: Event) -> None:
    """Store the pool's stop event in a process of the pool."""
    _stop_events[:] = [event]


def run_unless_stopped(function: Callable[[Run], str], run: Run) -> str:
    """Execute a run unless the pool was stopped."""
    return "stopped" if any(event.is_set() for event in _stop_events) else function(run)
