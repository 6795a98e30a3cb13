"""Fields that several benchmarks' reports have: the machine, and the losses of a training log."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

AVERAGED_STEPS = 20
"""Number of steps over which the losses are averaged, at a run's start and end."""


def machine() -> dict[str, object]:
    """Return processor, number of cores, date and versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("mmdistill", "torch", "numpy", "opencv-python-headless")},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a checkout
        return "not installed"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def mean_losses(log: Path) -> dict[str, list[float]]:
    """Return each loss term's mean over a run's first and last steps.

    Args:
        log: the run's ``log.jsonl``; the result is empty if it does not exist.
    """
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    steps = [line for line in lines if "skipped" not in line]
    return {
        term: [
            float(f"{statistics.mean(step[term] for step in part):.3g}")
            for part in (steps[:AVERAGED_STEPS], steps[-AVERAGED_STEPS:])
        ]
        for term in (steps[0] if steps else {})
        if term not in ("step", "replaced") and all(term in step for step in steps)
    }
