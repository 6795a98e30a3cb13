"""Measures time and peak memory of a CMD step: written from the equations, the library's, and the student's own step.

Forward and backward with given teacher features, gradients into the student's features and the losses' parameters, one
thread. All steps take turns in one process, so that other load affects all of them. Figures are medians over rounds;
ratios are medians of each round's ratio to the plain step. Peak memory is measured in one process per step. Everything
is repeated with several settings of glibc's allocator. Takes about 15 minutes on one core.

Example:
    python benchmarks/loss_step.py --out benchmarks/results/loss_step.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from parts.cmd_steps import make_inputs, make_steps, summary, time_steps
from parts.report_fields import machine
from torch import Tensor

ALLOCATORS: dict[str, dict[str, str]] = {
    "default": {},
    "freed memory kept": {"MALLOC_MMAP_THRESHOLD_": str(2**34), "MALLOC_TRIM_THRESHOLD_": str(2**34)},
    "huge pages": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
}


def peak_memory(step: Callable[[], Tensor]) -> float:
    """Return the MiB by which one step raises the resident memory of the process (Linux)."""
    status = Path("/proc/self/status")

    def kibibytes(field: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field))

    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = kibibytes("VmRSS")
    step().backward()  # type: ignore[no-untyped-call]
    return (kibibytes("VmHWM") - before) / 1024


def run_part(arguments: list[str], **environment: str) -> dict[str, Any]:
    """Run this script in a new process with environment variables; return its JSON output."""
    command = [sys.executable, __file__, *arguments]
    output = subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(output.stdout)
    return result


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of ratios, seconds and peak memory."""
    head = ["Step", *(f"{name}: ratio (seconds)" for name in report["time"]), "Peak MiB"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name, peak in report["peak MiB"].items():
        results = [times[name] for times in report["time"].values()]
        lines.append([name, *(f"{x['ratio']:.2f} ({x['seconds']:.1f})" for x in results), f"{peak:,}"])
    return [f"| {' | '.join(cells)} |" for cells in lines]


def main() -> None:
    """Measure everything; with the hidden options, one part in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds; default 5")
    parser.add_argument("--batch", type=int, default=8, help="image pairs per batch; default 8")
    parser.add_argument("--crop", type=int, default=288, help="crop size, pixels; default 288")
    parser.add_argument("--out", type=Path, help="JSON report")
    parser.add_argument("--part", choices=("time", "memory"), help=argparse.SUPPRESS)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    sizes = ["--batch", str(settings.batch), "--crop", str(settings.crop), "--rounds", str(settings.rounds)]
    if settings.part is None:
        report: dict[str, Any] = {
            "machine": machine(),
            "step": f"{settings.batch} pairs, {settings.crop} pixels, one thread",
            "allocators": ALLOCATORS,
            "time": {name: run_part([*sizes, "--part", "time"], **variables) for name, variables in ALLOCATORS.items()},
            "peak MiB": {
                name: run_part([*sizes, "--part", "memory", "--only", name])["peak"]
                for name in make_steps(make_inputs(1, 32), 32)
            },
        }
        if settings.out:
            settings.out.write_text(json.dumps(report, indent=2) + "\n")
        print("\n".join(table(report)))
        return
    torch.set_num_threads(1)
    inputs = make_inputs(settings.batch, settings.crop)
    steps = make_steps(inputs, settings.crop)
    if settings.part == "memory":
        print(json.dumps({"peak": round(peak_memory(steps[settings.only]))}))
    else:
        print(json.dumps(summary(time_steps(steps, inputs, settings.rounds))))


if __name__ == "__main__":
    main()
