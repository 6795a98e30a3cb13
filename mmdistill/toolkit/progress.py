"""Shows progress: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from tqdm import tqdm

LINE_INTERVAL = 10.0
"""Seconds between two lines where standard error is not a terminal."""


class ProgressBar:
    """A bar that shows nothing, and the interface of the other two.

    Attributes:
        shown: whether anything was printed.
    """

    shown = False

    def update(self, n: float = 1) -> None:
        """Add ``n`` finished units."""

    def set_postfix(self, values: Mapping[str, object]) -> None:
        """Set the values shown after the count, from the next update on."""

    def set_description(self, title: str) -> None:
        """Set the title, from the next update on."""

    def close(self) -> None:
        """End the bar; its last state stays on the screen."""

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TerminalBar(ProgressBar):
    """A bar on one line of a terminal.

    Args:
        total: number of units; None if unknown.
        title: name of the task.
        unit: name of one unit.
        initial: number of units finished before.
    """

    shown = True

    def __init__(self, total: int | None, title: str, unit: str, initial: int = 0) -> None:
        self._bar = tqdm(total=total, initial=initial, desc=title, unit=unit, dynamic_ncols=True)

    def update(self, n: float = 1) -> None:
        """Add ``n`` finished units."""
        with suppress(OSError):  # a closed terminal does not stop the work
            self._bar.update(n)

    def set_postfix(self, values: Mapping[str, object]) -> None:
        """Set the values shown after the count, from the next update on."""
        self._bar.set_postfix(values, refresh=False)

    def set_description(self, title: str) -> None:
        """Set the title, from the next update on."""
        self._bar.set_description(title, refresh=False)

    def close(self) -> None:
        """End the bar; its last state stays on the screen."""
        with suppress(OSError):
            self._bar.close()


class ProgressLines(ProgressBar):
    """Prints a line to standard error at most every ten seconds, for log files.

    Work that takes less than ten seconds prints no line.

    Args:
        total: number of units; None if unknown.
        title: name of the task.
        unit: name of one unit.
        initial: number of units finished before.
        clock: returns the time in seconds.
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
        self._start = self._last_line = clock()
        self._done: float = initial
        self._postfix: Mapping[str, object] = {}

    def update(self, n: float = 1) -> None:
        """Add ``n`` finished units, and print a line if ten seconds have passed."""
        self._done += n
        now = self._clock()
        if now - self._last_line < LINE_INTERVAL:
            return
        self._last_line, self.shown = now, True
        print_to_stderr(self._line(now - self._start))

    def set_postfix(self, values: Mapping[str, object]) -> None:
        """Set the values printed after the count, from the next line on."""
        self._postfix = values

    def set_description(self, title: str) -> None:
        """Set the title, from the next line on."""
        self._title = title

    def _line(self, seconds: float) -> str:
        rate = (self._done - self._initial) / seconds
        parts = [f"{self._unit} {self._done:,.0f}", f"{rate:.3g} per second"]
        if self._total is not None:
            parts[0] += f" of {self._total:,}"
            if rate > 0:
                parts.append(f"{tqdm.format_interval(max(self._total - self._done, 0) / rate)} left")
        return f"{self._title}: {', '.join([*parts, *(f'{name} {value}' for name, value in self._postfix.items())])}"


def print_to_stderr(message: str) -> None:
    """Print a line to standard error; does nothing if it is missing or can't be written."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(message, file=sys.stderr, flush=True)


def progress_bar(total: int | None, title: str, unit: str, *, initial: int = 0, quiet: bool = False) -> ProgressBar:
    """Return a progress bar with rate and remaining time; lines where standard error is not a terminal.

    Args:
        total: number of units; None if unknown.
        title: name of the task.
        unit: name of one unit.
        initial: number of units finished before.
        quiet: shows nothing.
    """
    if quiet or sys.stderr is None:
        return ProgressBar()
    return (TerminalBar if sys.stderr.isatty() else ProgressLines)(total, title, unit, initial)
