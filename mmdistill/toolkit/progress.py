"""Progress: a bar on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from tqdm import tqdm

LINE_INTERVAL = 10.0
"""Seconds between two lines where standard error is no terminal."""


class ProgressBar:
    """Counts units and shows nothing: the bar of ``quiet``; the others show what this one is told.

    Attributes:
        shown: whether the user saw anything of it.
    """

    shown = False

    def update(self, n: float = 1) -> None:
        """Count ``n`` more units as done."""

    def set_postfix(self, values: Mapping[str, object]) -> None:
        """Show these values behind the count, from the next update on."""

    def set_description(self, title: str) -> None:
        """Show another title, from the next update on."""

    def close(self) -> None:
        """Leave the last state on the screen."""

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TerminalBar(ProgressBar):
    """A bar that is drawn again and again on one line of a terminal.

    Args:
        total: number of units; None if unknown.
        title: what is under way.
        unit: name of one unit.
        initial: units that were done before.
    """

    shown = True

    def __init__(self, total: int | None, title: str, unit: str, initial: int = 0) -> None:
        self._bar = tqdm(total=total, initial=initial, desc=title, unit=unit, dynamic_ncols=True)

    def update(self, n: float = 1) -> None:
        """Count ``n`` more units as done."""
        with suppress(OSError):  # a terminal that is gone stops no work
            self._bar.update(n)

    def set_postfix(self, values: Mapping[str, object]) -> None:
        """Show these values behind the count, from the next update on."""
        self._bar.set_postfix(values, refresh=False)

    def set_description(self, title: str) -> None:
        """Show another title, from the next update on."""
        self._bar.set_description(title, refresh=False)

    def close(self) -> None:
        """Leave the last state on the screen."""
        with suppress(OSError):
            self._bar.close()


class ProgressLines(ProgressBar):
    """Prints a line to standard error at most every ten seconds, for log files.

    Work that ends within ten seconds prints none.

    Args:
        total: number of units; None if unknown.
        title: what is under way.
        unit: name of one unit.
        initial: units that were done before.
        clock: returns seconds.
    """

    def __init__(
        self,
        total: int | None,
        title: str,
        unit: str,
        initial: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._title, self._unit, self._initial, self._clock = total, title, unit, initial, clock
        self._start = self._latest = clock()
        self._done: float = initial
        self._postfix: Mapping[str, object] = {}

    def update(self, n: float = 1) -> None:
        """Count ``n`` more units as done, and print a line if one is due."""
        self._done += n
        now = self._clock()
        if now - self._latest < LINE_INTERVAL:
            return
        self._latest, self.shown = now, True
        tell(self._line(now - self._start))

    def set_postfix(self, values: Mapping[str, object]) -> None:
        """Print these values behind the count, from the next line on."""
        self._postfix = values

    def set_description(self, title: str) -> None:
        """Print another title, from the next line on."""
        self._title = title

    def _line(self, seconds: float) -> str:
        rate = (self._done - self._initial) / seconds
        parts = [f"{self._unit} {self._done:,.0f}", f"{rate:.3g} per second"]
        if self._total is not None:
            parts[0] += f" of {self._total:,}"
            if rate > 0:
                parts.append(f"{tqdm.format_interval(max(self._total - self._done, 0) / rate)} left")
        return f"{self._title}: {', '.join([*parts, *(f'{name} {value}' for name, value in self._postfix.items())])}"


def tell(message: str) -> None:
    """Print a line to standard error, if there is one and it can be written."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(message, file=sys.stderr, flush=True)


def progress_bar(total: int | None, title: str, unit: str, *, initial: int = 0, quiet: bool = False) -> ProgressBar:
    """Return a bar with the rate and the time left; where standard error is no terminal, lines with the same.

    Args:
        total: number of units; None if unknown.
        title: what is under way.
        unit: name of one unit.
        initial: units that were done before.
        quiet: show nothing.
    """
    if quiet or sys.stderr is None:
        return ProgressBar()
    return (TerminalBar if sys.stderr.isatty() else ProgressLines)(total, title, unit, initial)
