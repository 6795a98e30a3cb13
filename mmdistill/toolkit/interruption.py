"""Handles termination signals, so that work under way is finished and saved before a process ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATION_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a process to end, SIGINT first; Windows has no SIGHUP."""


class Interruption(KeyboardInterrupt):
    """Raised by a termination signal, after the work under way is saved.

    Attributes:
        number: the signal's number.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__()


def exit_status(interruption: KeyboardInterrupt) -> int:
    """Return the exit status that shells expect: 128 plus the signal's number; 130 for Ctrl-C."""
    return 128 + (interruption.number if isinstance(interruption, Interruption) else signal.SIGINT)


@contextmanager
def collect_signals() -> Iterator[list[int]]:
    """Collect termination signals in a list, so that the caller can finish, save and raise ``Interruption``.

    A second signal raises ``Interruption`` at once. Only the main thread can handle signals; in other threads the
    list stays empty.

    Yields:
        The numbers of the received signals.
    """
    received: list[int] = []

    def receive(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise Interruption(number)

    with _handlers(receive):
        yield received


@contextmanager
def raise_on_signal() -> Iterator[None]:
    """Make termination signals raise ``Interruption``, so that open resources are closed; main thread only."""

    def receive(number: int, _: FrameType | None) -> None:
        raise Interruption(number)

    with _handlers(receive):
        yield


@contextmanager
def _handlers(receive: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    previous = {}
    for number in TERMINATION_SIGNALS:
        if number != signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
            continue  # as set by nohup
        try:
            previous[number] = signal.signal(number, receive)
        except ValueError:  # outside the main thread
            break
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)
