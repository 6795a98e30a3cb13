"""What a run's log says of its losses."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

AVERAGED_STEPS = 20
"""Over how many steps the loss is averaged, at the start of a run and at its end."""


def losses(log: Path) -> dict[str, list[float]]:
    """Return each term's mean over a run's first steps and over its last."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    steps = [line for line in lines if "skipped" not in line]
    return {
        term: [
            float(f"{statistics.mean(step[term] for step in part):.3g}")
            for part in (steps[:AVERAGED_STEPS], steps[-AVERAGED_STEPS:])
        ]
        for term in (steps[0] if steps else {})
        if term not in ("step", "replaced")
    }
