"""Runs carried out several at once, each in a process of its own; once told to stop, no process begins another."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import active_children, get_context
from multiprocessing.synchronize import Event
from types import FrameType

from parts.ablation.runs import Run

Map = Callable[[Callable[[Run], str], Iterable[Run]], Iterator[str]]
"""What carries out runs and says of each why it is left, as ``carry_out`` does."""

_told: list[Event] = []
"""In a process of the pool, the event that all of them listen to."""


@contextmanager
def pool(jobs: int) -> Iterator[Map]:
    """Yield what carries out runs, so many at once: in this process, or in processes of their own."""
    if jobs == 1:
        yield map
        return

    context = get_context("spawn")
    told = context.Event()

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        told.set()
        for child in active_children():
            child.terminate()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, pass_on)  # Ctrl-C reaches the processes by itself
    try:
        with ProcessPoolExecutor(jobs, context, listen, (told,)) as executor:
            try:
                yield lambda function, runs: executor.map(partial(unless_told, function), runs)
            except BaseException:
                told.set()  # the executor hands out runs ahead of time, which can't be taken back
                executor.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        signal.signal(signal.SIGTERM, before)


def listen(told: Event) -> None:
    """Note, in a process of the pool, what it is told by."""
    _told[:] = [told]


def unless_told(function: Callable[[Run], str], run: Run) -> str:
    """Carry out a run, or leave it where the pool was told to stop."""
    return "stopped" if any(event.is_set() for event in _told) else function(run)
