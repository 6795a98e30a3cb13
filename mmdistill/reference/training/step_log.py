"""A line for each step, also while the disk is full: what can't be written waits."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mmdistill.reference.files import write_text


class StepLog:
    """Appends lines to a file, each at once, so that it can be followed.

    Args:
        path: the file; lines after the first ``steps``, which a lost run had logged but not saved, are dropped.
        steps: how many lines are kept.
    """

    def __init__(self, path: Path, steps: int) -> None:
        lines = path.read_bytes().splitlines(keepends=True)[:steps] if path.exists() else []
        write_text(path, b"".join(lines).decode("utf-8", "backslashreplace"))  # a damaged line stops no run
        self._file = path.open("ab", buffering=0)
        self._waiting = b""

    def add(self, line: str) -> None:
        """Append a line now, or as soon as there is room for it."""
        self._waiting += line.encode() + b"\n"
        with suppress(OSError):
            self.flush()

    def flush(self) -> None:
        """Write what is waiting.

        Raises:
            OSError: it can't be written; what was not waits on.
        """
        while self._waiting:
            self._waiting = self._waiting[self._file.write(self._waiting) :]

    def close(self) -> None:
        """Write what is waiting, if there is room for it, and close the file."""
        with suppress(OSError):
            self.flush()
        self._file.close()
