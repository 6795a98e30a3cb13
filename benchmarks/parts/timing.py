"""Timing of functions, and tracker settings for timing networks with random weights."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mmdistill.reference.tracking.settings import PUBLISHED, TrackingSettings


def no_rejection() -> TrackingSettings:
    """Return the published settings without rejection of frames.

    The score maps of random weights are low. With rejection the tracker would skip its updates.
    """
    return replace(
        PUBLISHED, localization=replace(PUBLISHED.localization, not_found=-100.0, rival=100.0, distractor=100.0)
    )


class Stopwatch:
    """Sums the seconds of named parts.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._clock = clock

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time spent inside the context to a part."""
        start = self._clock()
        try:
            yield
        finally:
            self.seconds[name] += self._clock() - start

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time added to a part."""

        def call(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return function(*arguments, **options)

        return call

    def patch(self, owner: Any, attribute: str, name: str) -> None:
        """Replace a function of a module or object by its timed version."""
        setattr(owner, attribute, self.timed(name, getattr(owner, attribute)))


@contextmanager
def record_calls(owner: Any, *names: str) -> Iterator[list[tuple[float, float]]]:
    """Record the start time and the seconds of each call of some functions of a module."""
    calls: list[tuple[float, float]] = []
    originals = {name: getattr(owner, name) for name in names}

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **options)
            calls.append((start, time.perf_counter() - start))
            return result

        return call

    for name, function in originals.items():
        setattr(owner, name, timed(function))
    try:
        yield calls
    finally:
        for name, function in originals.items():
            setattr(owner, name, function)
