"""Ending a stage of a long benchmark in good order when its time is over."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def until(end: float) -> Iterator[None]:
    """Send this process SIGTERM at a time; what is inside deals with that as with anyone else's.

    Args:
        end: seconds since the epoch.
    """

    def ring(_number: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, min(max(end - time.time(), 1e-3), 1e8))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
