"""Stopping in good order: what is under way is finished before a signal takes effect."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a process to end; Windows has no SIGHUP."""


class Interruption(KeyboardInterrupt):
    """A signal asked this process to end, and what was under way is saved.

    Attributes:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()


def exit_status(interruption: KeyboardInterrupt) -> int:
    """Return the status that shells expect: 128 and the signal's number; 130 for Ctrl-C."""
    return 128 + (interruption.number if isinstance(interruption, Interruption) else signal.SIGINT)


@contextmanager
def interruption() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in a list, so that what is under way can be finished and saved.

    Who saves then raises ``Interruption``. The second signal raises it at once.

    Outside the main thread, which alone may handle signals, the list stays empty.

    Yields:
        The numbers of the signals that came.
    """
    received: list[int] = []

    def receive(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise Interruption(number)

    with _handling(receive):
        yield received


@contextmanager
def terminable() -> Iterator[None]:
    """Make the signals of ``interruption`` raise ``Interruption``, so that what is open is closed; main thread only."""

    def receive(number: int, _: FrameType | None) -> None:
        raise Interruption(number)

    with _handling(receive):
        yield


@contextmanager
def _handling(receive: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {}
    for number in SIGNALS:
        if number != signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
            continue  # as nohup wants it
        try:
            before[number] = signal.signal(number, receive)
        except ValueError:  # outside the main thread
            break
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
