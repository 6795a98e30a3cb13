"""Markdown tables of gpu_speed.py, and the relative cost of the losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from parts.gpu.experiment import PRECISIONS
from parts.gpu.training import PARTS, STUDENT_ALONE

NOT_MEASURED = "not measured"

TARGET_PRECISION = "bfloat16"

MIN_FRAMES_PER_SECOND = {1: 300, 32: 4000}
"""Targets of the student, by number of videos per batch."""

MAX_RELATIVE_COST = 1.0
"""Target of CMD's additional time, relative to the student's step."""


def tables(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the lines of each Markdown table by name, with columns for each device."""
    devices = {"CPU": report.get("cpu"), "GPU": report.get("cuda")}
    rows = {device: (each or {}).get("rows", {}) for device, each in devices.items()}
    names = list(dict.fromkeys(name for by_name in rows.values() for name in by_name))

    def section(start: str, first: str, columns: Mapping[str, Callable[[dict[str, Any]], str]]) -> list[str]:
        head = [first, *(f"{device}: {column}" for device in rows for column in columns)]
        lines = [head, ["---", *["---:"] * (len(head) - 1)]]
        for name in names:
            if name.partition("/")[0] == start:
                cells = [_cell(by_name.get(name), show) for by_name in rows.values() for show in columns.values()]
                lines.append([name.partition("/")[2] or name, *cells])
        return [f"| {' | '.join(cells)} |" for cells in lines]

    roofline = {"ms": _number("milliseconds"), "of the roofline": _share("of the roofline")}
    return {
        "tracking": section(
            "tracking",
            "Network, precision, videos",
            {
                "frames per second": _number("frames per second"),
                "time for crops": _share("share of crops on the host"),
                "first frame, ms": _number("milliseconds of the first frame"),
            },
        ),
        "training": section(
            "training",
            "Losses, precision",
            {"steps per second": _number("steps per second"), "of the roofline": roofline["of the roofline"]},
        ),
        "network": section("network", "Network, precision, videos", roofline),
        "experiments": section("experiments", "Student in bfloat16, videos", roofline),
        "ceilings": section(
            "ceilings",
            "10^9 per second",
            {kind: _billions(kind) for kind in ("float32", "tf32", "bfloat16", "bytes")},
        ),
        "profile": section(
            "profile",
            "Step",
            {
                "ms": lambda row: f"{1000 * row['seconds']:,.1f}",
                "GPU idle": lambda row: "unknown" if row["idle"] is None else f"{row['idle']:.0%}",
                "time by operation": lambda row: ", ".join(
                    f"{name} {share:.0%}" for name, share in row["shares"].items()
                ),
            },
        ),
    }


def _cell(row: dict[str, Any] | None, show: Callable[[dict[str, Any]], str]) -> str:
    if row is None:
        return NOT_MEASURED
    return "failed" if "failed" in row else show(row)


def _number(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: f"{row[name]:,.0f}" if row[name] >= 100 else f"{row[name]:.3g}"


def _share(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: f"{100 * row[name]:.1f} %"


def _billions(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: f"{row[name] / 1e9:,.0f}" if name in row else "none"


def costs(rows: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return by precision each loss's additional time, relative to the student's step without a teacher."""
    result: dict[str, dict[str, float]] = {}
    for precision in PRECISIONS:
        base = rows.get(f"training/{STUDENT_ALONE}, {precision}", {}).get("milliseconds")
        times = {part: rows.get(f"training/{part}, {precision}", {}).get("milliseconds") for part in PARTS}
        if base:
            result[precision] = {part: round(each / base - 1, 3) for part, each in times.items() if each}
    return result


def targets_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of each target and the GPU's figure."""
    rows = report.get("cuda", {}).get("rows", {})
    lines = ["| One GPU, bfloat16 | Target | Measured |", "| --- | ---: | ---: |"]
    for count, minimum in MIN_FRAMES_PER_SECOND.items():
        rate = rows.get(f"tracking/student, {TARGET_PRECISION}, {count}", {}).get("frames per second")
        cell = NOT_MEASURED if rate is None else f"{rate:,.0f}: {_reached(rate >= minimum)}"
        videos = "one video" if count == 1 else f"{count} videos"
        lines.append(f"| student, {videos}, frames per second | at least {minimum:,} | {cell} |")
    cost = costs(rows).get(TARGET_PRECISION, {}).get("all")
    cell = NOT_MEASURED if cost is None else f"{cost:.2f}: {_reached(cost <= MAX_RELATIVE_COST)}"
    return [
        *lines,
        f"| additional time of CMD, relative to the student's step | at most {MAX_RELATIVE_COST:.1f} | {cell} |",
    ]


def _reached(reached: bool) -> str:
    return "reached" if reached else "missed"
