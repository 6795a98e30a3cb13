"""A part of gpu_speed.py: its rows as Markdown tables, and what losses add to a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from parts.gpu.experiment import PRECISIONS
from parts.gpu.training import PARTS

NOT_MEASURED = "not measured"


def tables(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the lines of each Markdown table by name: a column for each device, and what was not measured."""
    devices = {"processor": report.get("cpu"), "GPU": report.get("cuda")}
    rows = {kind: (each or {}).get("rows", {}) for kind, each in devices.items()}
    names = list(dict.fromkeys(name for found in rows.values() for name in found))

    def section(start: str, first: str, columns: Mapping[str, Callable[[dict[str, Any]], str]]) -> list[str]:
        head = [first, *(f"{kind}: {column}" for kind in rows for column in columns)]
        lines = [head, ["---", *["---:"] * (len(head) - 1)]]
        for name in names:
            if name.partition("/")[0] == start:
                cells = [_cell(found.get(name), show) for found in rows.values() for show in columns.values()]
                lines.append([name.partition("/")[2] or name, *cells])
        return [f"| {' | '.join(cells)} |" for cells in lines]

    roofline = {"ms": _number("milliseconds"), "of the roofline": _share("of the roofline")}
    return {
        "tracking": section(
            "tracking",
            "Network, precision, videos",
            {
                "frames a second": _number("frames a second"),
                "crops on the host": _share("share of crops on the host"),
                "a start, ms": _number("milliseconds of a start"),
            },
        ),
        "training": section(
            "training",
            "With, precision",
            {"steps a second": _number("steps a second"), "of the roofline": roofline["of the roofline"]},
        ),
        "network": section("network", "Network, precision, videos", roofline),
        "experiments": section("experiments", "Student in bfloat16, videos", roofline),
        "ceilings": section(
            "ceilings",
            "Thousand millions a second",
            {kind: _thousand_millions(kind) for kind in ("float32", "tf32", "bfloat16", "bytes")},
        ),
        "profile": section(
            "profile",
            "What",
            {
                "ms": lambda row: f"{1000 * row['seconds']:,.1f}",
                "idle": lambda row: "unknown" if row["idle"] is None else f"{row['idle']:.0%}",
                "the rest": lambda row: ", ".join(f"{name} {share:.0%}" for name, share in row["shares"].items()),
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


def _thousand_millions(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: f"{row[name] / 1e9:,.0f}" if name in row else "none"


def costs(rows: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return by precision what each loss adds to the student's own step, relative to that step."""
    found: dict[str, dict[str, float]] = {}
    for precision in PRECISIONS:
        base = rows.get(f"training/alone, {precision}", {}).get("milliseconds")
        there = {part: rows.get(f"training/{part}, {precision}", {}).get("milliseconds") for part in PARTS}
        if base:
            found[precision] = {part: round(took / base - 1, 3) for part, took in there.items() if took}
    return found
