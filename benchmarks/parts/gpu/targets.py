"""A part of gpu_speed.py: what a GPU is asked for, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parts.gpu.tables import NOT_MEASURED, costs

PRECISION = "bfloat16"

FRAMES_A_SECOND = {1: 300, 32: 4000}
"""What the student is asked for at least, by the number of videos tracked together."""

COST = 1.0
"""What CMD may add to the student's own training step at most, in such steps."""


def targets_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table in Markdown of each target, the GPU's figure, and whether it is reached."""
    rows = report.get("cuda", {}).get("rows", {})
    lines = ["| On one GPU, in bfloat16 | Target | Measured |", "| --- | ---: | ---: |"]
    for count, least in FRAMES_A_SECOND.items():
        found = rows.get(f"tracking/student, {PRECISION}, {count}", {}).get("frames a second")
        cell = NOT_MEASURED if found is None else f"{found:,.0f}: {_reached(found >= least)}"
        videos = "one video" if count == 1 else f"{count} videos"
        lines.append(f"| student, {videos}, frames a second | at least {least:,} | {cell} |")
    cost = costs(rows).get(PRECISION, {}).get("all")
    cell = NOT_MEASURED if cost is None else f"{cost:.2f}: {_reached(cost <= COST)}"
    return [*lines, f"| what CMD adds to the student's own step, in such steps | at most {COST:.1f} | {cell} |"]


def _reached(reached: bool) -> str:
    return "reached" if reached else "missed"
