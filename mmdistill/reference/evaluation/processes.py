"""Tracking sequences in several processes at once, for machines with many cores and no GPU."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from threading import Thread

from mmdistill.reference.data.sequence import TrackingSequence
from mmdistill.reference.errors import DataError
from mmdistill.reference.evaluation.run import Run
from mmdistill.reference.tracking.tracked import TrackedSequence


def in_processes(make: Callable[[], Run], workers: int) -> Run:
    """Return a run that tracks each sequence in one of several processes, which gives the same boxes.

    Args:
        make: called once in each process; what it returns tracks there, a sequence at a time. It is sent to new
            processes, as the sequences are, so that both must be picklable.
        workers: how many processes.
    """

    def run(
        sequences: Sequence[TrackingSequence], after_frame: Callable[[], object]
    ) -> Iterator[tuple[int, TrackedSequence]]:
        if not sequences:
            return
        context = get_context("spawn")  # a forked process would inherit torch's threads in any state
        ticks: SimpleQueue[bool] = context.SimpleQueue()
        stop = context.Event()
        counter = Thread(target=_count, args=(ticks, after_frame), daemon=True)
        counter.start()
        pool = ProcessPoolExecutor(min(workers, len(sequences)), context, _begin, (make, ticks, stop))
        try:
            numbers = {pool.submit(_track, sequence): number for number, sequence in enumerate(sequences)}
            for done in as_completed(numbers):
                yield numbers[done], done.result()
        except BrokenProcessPool as error:
            raise DataError(
                f"--workers: one of {workers} processes ended without a word; fewer need less memory"
            ) from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            ticks.put(False)
            counter.join()

    return run


class _Worker:
    """What a process keeps between sequences."""

    run: Run
    ticks: SimpleQueue[bool]
    stop: Event


def _begin(make: Callable[[], Run], ticks: SimpleQueue[bool], stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    logging.basicConfig(level=logging.WARNING, format="mmdistill: %(message)s")
    Thread(target=_end_with_the_parent, daemon=True).start()
    _Worker.run, _Worker.ticks, _Worker.stop = staticmethod(make()), ticks, stop


def _end_with_the_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _track(sequence: TrackingSequence) -> TrackedSequence:
    def after_frame() -> None:
        if _Worker.stop.is_set():
            raise KeyboardInterrupt
        _Worker.ticks.put(True)

    [(_, tracked)] = _Worker.run([sequence], after_frame)
    return tracked


def _count(ticks: SimpleQueue[bool], after_frame: Callable[[], object]) -> None:
    while ticks.get():
        after_frame()
