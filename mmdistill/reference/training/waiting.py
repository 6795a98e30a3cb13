"""Which share of its time a run waits for data, and what would help."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MUCH = 0.1
"""From this share on more workers are worth their memory."""


class Waiting:
    """Measures waits, from the end of the first one on: that is for workers to start, not for data.

    Args:
        clock: gives the time, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since: float | None = None
        self._waited = 0.0

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Count the time within as waited."""
        start = self._clock()
        yield
        end = self._clock()
        if self._since is None:
            self._since = end
        else:
            self._waited += end - start

    @property
    def share(self) -> float:
        """Time waited by all time; 0 as long as nothing was measured."""
        passed = 0.0 if self._since is None else self._clock() - self._since
        return self._waited / passed if passed > 0 else 0.0

    def told(self, workers: int) -> str:
        """Return the share in words.

        Args:
            workers: how many prepared the data.
        """
        share = self.share
        words = f"waited for data {share:.0%} of the time".replace("%", " %")
        if share < MUCH:
            return words
        better = "more training.workers" if workers else "training.workers, which prepare it beside the steps,"
        return f"{words}; {better} would help if there are cores to spare"
