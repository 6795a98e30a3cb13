"""Markdown tables of gpu_speed.py, and the relative cost of the losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from parts.gpu.cmd_step import STEPS
from parts.gpu.experiment import PRECISIONS
from parts.gpu.training import PARTS, STUDENT_ALONE

NOT_MEASURED = "not measured"

TARGET_PRECISION = "bfloat16"

MIN_FRAMES_PER_SECOND = {1: 300, 32: 4000}
"""Targets of the student, by number of videos per batch."""

MAX_RELATIVE_COST = 0.5
"""Target of CMD's additional time, relative to the student's step."""

MIN_ROOFLINE = 0.3
"""Target of the student's training step, share of the roofline."""

Show = Callable[[dict[str, Any]], str]
"""Returns a cell's text for a row."""


def tables(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the lines of each Markdown table by name, with columns for each device."""
    rows = {title: (report.get(key) or {}).get("rows", {}) for title, key in _devices(report).items()}
    names = _ordered(name for by_name in rows.values() for name in by_name)

    def section(start: str, first: str, columns: Mapping[str, Show]) -> list[str]:
        lines = _head(first, [f"{device}: {column}" for device in rows for column in columns])
        for name in names:
            if name.partition("/")[0] == start:
                cells = [_cell(by_name.get(name), show) for by_name in rows.values() for show in columns.values()]
                lines.append([name.partition("/")[2] or name, *cells])
        return _lines(lines)

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
        "frame": _frame_table(rows),
        "bounds": _bounds_table(report),
        "training": section(
            "training",
            "Losses, precision",
            {"steps per second": _number("steps per second"), "of the roofline": roofline["of the roofline"]},
        ),
        "cmd step": _cmd_step_table(report),
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


def _devices(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the title of each device's columns, and its key in the report."""
    return {"CPU": "cpu", _gpu(report): "cuda"}


def _ordered(names: Iterable[str]) -> list[str]:
    """Return each name once, with rows that differ in the number of videos side by side."""
    starts: dict[str, set[str]] = {}
    for name in names:
        start, _, last = name.rpartition(", ")
        starts.setdefault(start if last.isdigit() else name, set()).add(name)
    return [name for group in starts.values() for name in sorted(group, key=lambda each: (len(each), each))]


def _frame_table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of a table of a frame's time: the whole, and the network alone, with and without a graph."""
    counts = sorted(
        int(name.rpartition(", ")[2])
        for name in {name for by_name in rows.values() for name in by_name}
        if name.startswith(f"network/student, {TARGET_PRECISION}, ")
    )
    kinds: dict[str, Callable[[Mapping[str, Any], int], float | None]] = {
        "whole frame": lambda by_name, count: _frame_seconds(by_name, count),
        "network alone": lambda by_name, count: _seconds(by_name.get(f"network/student, {TARGET_PRECISION}, {count}")),
        "network alone, as a CUDA graph": lambda by_name, count: _seconds(
            by_name.get(f"experiments/CUDA graph, {count}")
        ),
    }
    lines = _head("Student in bfloat16, videos", [f"{device}: {kind}, ms" for device in rows for kind in kinds])
    for count in counts:
        times = [find(by_name, count) for by_name in rows.values() for find in kinds.values()]
        lines.append([str(count), *(NOT_MEASURED if time is None else _format(1000 * time) for time in times)])
    return _lines(lines)


def _cmd_step_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of the GPU's CMD steps: milliseconds, ratio to the plain step, and peak memory."""
    rows = (report.get("cuda") or {}).get("rows", {})
    columns: dict[str, Show] = {
        "ms": _number("milliseconds"),
        "ratio": lambda step: f"{step['ratio']:.2f}",
        "peak MiB": lambda step: "unknown" if step["peak MiB"] is None else f"{step['peak MiB']:,.0f}",
    }
    lines = _head("CMD step, precision", [f"{_gpu(report)}: {column}" for column in columns])
    for precision in PRECISIONS:
        row = rows.get(f"cmd step/{precision}")
        for step in STEPS:
            found = row if row is None or "failed" in row else row["steps"].get(step)
            lines.append([f"{step}, {precision}", *(_cell(found, show) for show in columns.values())])
    return _lines(lines)


def _bounds_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of the GPU's steps: time, time in which the GPU works, and minimum at the ceilings.

    The minimum is that of convolutions and matrix products.
    """
    rows = (report.get("cuda") or {}).get("rows", {})
    lines = _head("Step, bfloat16", [f"{_gpu(report)}: {each}, ms" for each in ("time", "GPU works", "minimum")])
    steps = {
        f"tracking, {_videos(count)}": (f"tracking student, {{}}, {count}", f"network/student, {{}}, {count}")
        for count in MIN_FRAMES_PER_SECOND
    }
    steps |= {
        f"training step, {part}": (f"training {part}, {{}}", f"training/{part}, {{}}")
        for part in (STUDENT_ALONE, "all")
    }
    for title, (profile, minimum) in steps.items():
        found = (rows.get(name.format(TARGET_PRECISION)) for name in (f"profile/{profile}", minimum))
        lines.append([title, *_bounds(*found)])
    return _lines(lines)


def _bounds(profile: Mapping[str, Any] | None, row: Mapping[str, Any] | None) -> list[str]:
    """Return the cells of a step: time and busy time from its profile, minimum from another row of its operations."""
    if profile is None or profile.get("idle") is None:
        cells = [NOT_MEASURED] * 2
    else:
        cells = [_format(1000 * profile["seconds"]), _format(1000 * profile["seconds"] * (1 - profile["idle"]))]
    known = row is not None and "failed" not in row
    return [
        *cells,
        _format(row["milliseconds"] * row["of the roofline"]) if row is not None and known else NOT_MEASURED,
    ]


def _videos(count: int) -> str:
    return "one video" if count == 1 else f"{count} videos"


def _gpu(report: Mapping[str, Any]) -> str:
    """Return the GPU's name."""
    return str((report.get("cuda") or {}).get("machine", {}).get("GPU", "GPU"))


def _head(first: str, columns: Sequence[str]) -> list[list[str]]:
    return [[first, *columns], ["---", *["---:"] * len(columns)]]


def _lines(rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in rows]


def _cell(row: dict[str, Any] | None, show: Callable[[dict[str, Any]], str]) -> str:
    if row is None:
        return NOT_MEASURED
    return "failed" if "failed" in row else show(row)


def _number(name: str) -> Show:
    return lambda row: _format(row[name])


def _format(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _share(name: str) -> Show:
    return lambda row: f"{100 * row[name]:.1f} %"


def _billions(name: str) -> Show:
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


def _seconds(row: Mapping[str, Any] | None) -> float | None:
    """Return a row's seconds; None if it is not measured or failed."""
    return row["milliseconds"] / 1000 if row is not None and "failed" not in row else None


def _frame_seconds(rows: Mapping[str, Any], count: int) -> float | None:
    """Return the seconds of a tracked frame of all videos of a batch; None if it is not measured.

    Without a row of tracking it is the step of the profile, which is timed without the profiler.
    """
    tracking = rows.get(f"tracking/student, {TARGET_PRECISION}, {count}", {})
    if "frames per second" in tracking:
        return float(count / tracking["frames per second"])
    seconds = rows.get(f"profile/tracking student, {TARGET_PRECISION}, {count}", {}).get("seconds")
    return None if seconds is None else float(seconds)


def targets_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of each target and the GPU's figure."""
    cuda = report.get("cuda") or {}
    rows = cuda.get("rows", {})
    lines = [
        ["One GPU, bfloat16", "Target", f"Measured on {cuda['machine']['GPU']}" if "machine" in cuda else "Measured"],
        ["---", "---:", "---:"],
    ]
    for count, minimum in MIN_FRAMES_PER_SECOND.items():
        seconds = _frame_seconds(rows, count)
        rate = None if seconds is None else count / seconds
        cell = NOT_MEASURED if rate is None else f"{rate:,.0f}: {_reached(rate >= minimum)}"
        lines.append([f"student, {_videos(count)}, frames per second", f"at least {minimum:,}", cell])
    cost = costs(rows).get(TARGET_PRECISION, {}).get("all")
    cell = NOT_MEASURED if cost is None else f"{cost:.2f}: {_reached(cost <= MAX_RELATIVE_COST)}"
    lines.append(
        ["additional time of CMD, relative to the student's training step", f"at most {MAX_RELATIVE_COST:g}", cell]
    )
    share = rows.get(f"training/{STUDENT_ALONE}, {TARGET_PRECISION}", {}).get("of the roofline")
    cell = NOT_MEASURED if share is None else f"{share:.0%}: {_reached(share >= MIN_ROOFLINE)}".replace("%", " %")
    lines.append(["student's training step, of the roofline", f"at least {100 * MIN_ROOFLINE:g} %", cell])
    return _lines(lines)


def _reached(reached: bool) -> str:
    return "met" if reached else "missed"
