"""A part of gpu_speed.py: measuring row by row, each kept on disk as soon as it is there."""

from __future__ import annotations

import gc
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from mmdistill.toolkit.io import write_text

Row = Callable[[], dict[str, Any]]
"""Measures a row."""


class Kept:
    """Rows on disk, each a file; those of another experiment or machine don't count.

    Args:
        folder: where they lie.
        about: the experiment and the machine.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self._folder, self._about = folder, json.loads(json.dumps(about))

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a row, or None."""
        path = self._path(name)
        if not path.exists():
            return None
        found = json.loads(path.read_text())
        row: dict[str, Any] = found["row"]
        return row if found["about"] == self._about else None

    def write(self, name: str, row: Mapping[str, Any]) -> None:
        """Keep a row."""
        write_text(self._path(name), json.dumps({"about": self._about, "name": name, "row": row}, indent=2) + "\n")

    def take(self, report: Mapping[str, Any]) -> None:
        """Keep what a report of the same experiment and machine holds, for where it alone was brought."""
        machine = {key: value for key, value in report.get("machine", {}).items() if key != "date"}
        if {"experiment": report.get("experiment"), "machine": machine} == self._about:
            for name, row in report["rows"].items():
                if "failed" not in row and self.read(name) is None:
                    self.write(name, row)

    def _path(self, name: str) -> Path:
        safe = "".join(letter if letter.isalnum() else "_" for letter in name)
        return self._folder / f"{safe}_{hashlib.sha256(name.encode()).hexdigest()[:6]}.json"


def measure(rows: Mapping[str, Row], kept: Kept, minutes: float) -> tuple[dict[str, Any], list[str]]:
    """Measure what is not there yet, as long as there is time; return what is there, and what is still to do.

    A row that fails is told, and tried again by the next command.
    """
    end = time.monotonic() + 60 * minutes
    found: dict[str, Any] = {}
    left = []
    for name, row in rows.items():
        known = kept.read(name)
        if known is None:
            if time.monotonic() > end:
                left.append(name)
                continue
            start = time.monotonic()
            try:
                known = row()
            except Exception as error:  # whatever one row meets, the others are measured
                said = str(error).partition("\n")[0][:200]
                found[name] = {"failed": f"{type(error).__name__}: {said}"}
                print(f"{name}: {found[name]['failed']}", flush=True)
                continue
            finally:
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            kept.write(name, known)
            print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
        found[name] = known
    return found, left
