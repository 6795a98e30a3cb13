"""Stopping in good order: what is under way is finished before a signal takes effect."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruption() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list, so that what is under way can be finished and saved.

    Who asks twice does not want to wait: the second signal is a KeyboardInterrupt at once.

    Outside the main thread, which alone may handle signals, the list stays empty.

    Yields:
        The numbers of the signals that came.
    """
    received: list[int] = []

    def receive(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt

    try:
        before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM a KeyboardInterrupt, as Ctrl-C is, so that what is open is closed; in the main thread alone."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
