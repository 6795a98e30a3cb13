"""Counts the dispatched operations, bytes and host reads of a step, by part; the machine does not change them.

Runs on a CPU with small networks and crops. The number of operations should not depend on these sizes: a second size is
counted too, and the report says where it differs. Bytes depend on them, so compare bytes of one size only.

Training: the student's whole step with precomputed features of the teacher. Takes a minute on one core.

To count an earlier commit, put its checkout on PYTHONPATH.

Example:
    PYTHONPATH=. python benchmarks/step_counts.py --label after --out benchmarks/results/step_counts.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from parts.gpu.experiment import PRECISIONS, Experiment
from parts.gpu.frame_counts import frame_rows
from parts.gpu.phases import OPTIMIZER, OTHER, PhaseCounts, count_phases
from parts.gpu.training import STUDENT_ALONE, TrainingSpeed
from parts.report_fields import machine

from mmdistill import _abf_kernels
from mmdistill._checks import values
from mmdistill.base import DistillationLoss
from mmdistill.reference.training.stages import Stage
from mmdistill.toolkit.io import write_text

SMALL = Experiment(device="cpu", threads=1, width=8, crop=96, teacher_depth=18, batch_size=2)
"""The counted sizes."""

OTHER_SIZE = replace(SMALL, width=16, crop=128, batch_size=3)
"""Sizes that must give the same numbers of operations."""

LABELS = ("before", "after")
"""Keys of the counts of two commits in the report."""

FRAMES = (("float32", 1), ("float32", 8), ("bfloat16", 1))
"""Precisions and numbers of videos in the table of a tracked frame."""

TRAINED = (STUDENT_ALONE, "SCFD", "MPSD", "HFRD", "all")
"""Rows of training; see ``parts.gpu.training.PARTS``."""


def training_counts(experiment: Experiment, part: str, precision: str) -> PhaseCounts:
    """Return the counts of a training step, after two steps that build the optimizer's state."""
    step = TrainingSpeed(experiment, lambda: {}).step(part, precision)
    step()
    step()
    return count_phases(
        step,
        {
            "forward": [(Stage, "__call__")],
            "checks": [(values, "check_inputs"), (values, "_pack"), (DistillationLoss, "watch_parameters")],
            "backward": [(torch.Tensor, "backward")],
            OPTIMIZER: [(torch.optim.Adam, "step")],
        },
    )


def training_rows(experiment: Experiment) -> dict[str, Callable[[], PhaseCounts]]:
    """Return each training row's count by name."""
    return {
        f"training/{part}, {precision}": lambda part=part, precision=precision: training_counts(  # type: ignore[misc]
            experiment, part, precision
        )
        for part in TRAINED
        for precision in PRECISIONS
    }


ROWS: tuple[Callable[[Experiment], Mapping[str, Callable[[], PhaseCounts]]], ...] = (training_rows, frame_rows)
"""Functions that return rows by name; a new kind of row is added here."""


def measure(only: str, *, verbose: bool) -> dict[str, Any]:
    """Return the rows whose names start with ``only``; print their operations by name if ``verbose``."""
    small, other = ({key: row for each in ROWS for key, row in each(size).items()} for size in (SMALL, OTHER_SIZE))
    report: dict[str, Any] = {}
    for name, row in small.items():
        if not name.startswith(only):
            continue
        counts, repeated = row(), other[name]()
        report[name] = counts.report() | {
            "depends on sizes": counts.operations != repeated.operations,
            "operations with the other sizes": repeated.report()["all"]["operations"],
        }
        print(f"{name}: {report[name]['all']['operations']:,} operations", flush=True)
        for phase, names in counts.operations.items() if verbose else ():
            for operation, count in names.most_common():
                changed = repeated.operations[phase][operation]
                suffix = "" if changed == count else f", {changed} with the other sizes"
                print(f"    {phase}: {operation} {count}{suffix}")
    return report


def table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of all rows, before and after."""
    labels = [label for label in LABELS if label in report]
    lines = ["| Step | " + " | ".join(f"{label}: operations | MiB | host reads" for label in labels) + " |"]
    lines.append("| --- |" + " ---: | ---: | ---: |" * len(labels))
    for name in report[labels[-1]]["rows"]:
        for phase in ("forward", "backward", "optimizer", "checks", "all"):
            cells = []
            for label in labels:
                counts = report[label]["rows"].get(name, {}).get(phase)
                cells.append(
                    f"{counts['operations']:,} | {counts['bytes'] / 2**20:,.0f} | {counts['host reads']}"
                    if counts
                    else "0 | 0 | 0"
                )
            lines.append(f"| {name}, {phase} | " + " | ".join(cells) + " |")
    return lines


def frame_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of a tracked frame's operations by part, before and after."""
    columns = [
        ("before", "tracking/frame, float32, 1", "before, 1 video"),
        *(
            ("after", f"tracking/frame, {precision}, {videos}", f"{precision}, {videos}")
            for precision, videos in FRAMES
        ),
        ("before", "tracking/frame with filter update, float32, 1", "before, with update"),
        ("after", "tracking/frame with filter update, float32, 1", "float32, 1, with update"),
    ]
    counts = [report[label]["rows"][row] for label, row, _ in columns]
    parts = [part for part in counts[-1] if isinstance(counts[-1][part], dict) and part not in (OTHER, "all")]
    lines = ["| Part | " + " | ".join(title for *_, title in columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for part, name in [*((part, part) for part in parts), (OTHER, "outside of the parts"), ("all", "all")]:
        cells = (f"{each[part]['operations']:,}" if part in each else "" for each in counts)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def training_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of whole training steps, before and after."""
    lines = [
        "| Losses, precision | " + " | ".join(f"{label}: operations | MiB | host reads" for label in LABELS) + " |"
    ]
    lines.append("| --- |" + " ---: |" * 3 * len(LABELS))
    for name in report["after"]["rows"]:
        if name.startswith("training/"):
            counts = [report[label]["rows"][name]["all"] for label in LABELS]
            cells = (f"{c['operations']:,} | {c['bytes'] / 2**20:,.0f} | {c['host reads']}" for c in counts)
            lines.append(f"| {name.removeprefix('training/')} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", choices=LABELS, default="after", help="key of the counts in the report")
    parser.add_argument("--commit", default="", help="the library's commit, noted in the report")
    parser.add_argument("--only", default="", help="count only rows whose names start with this")
    parser.add_argument("--names", action="store_true", help="print each row's operations by name")
    parser.add_argument("--out", type=Path, help="JSON report; other labels and rows in it are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(SMALL.threads)
    # As on a GPU: an unfused Adam updates all tensors at once.
    adam: Any = import_module("torch.optim.adam")
    adam._default_to_fused_or_foreach = lambda *_, **__: (False, True)
    # A CPU processes an ABF's maps in blocks, whose number depends on the sizes; a GPU takes whole maps.
    _abf_kernels._use_blocks = lambda inputs: False  # noqa: ARG005
    out = arguments.out
    report = json.loads(out.read_text()) if out is not None and out.exists() else {}
    earlier = report.get(arguments.label, {}).get("rows", {})
    report[arguments.label] = {
        "machine": machine(),
        "commit": arguments.commit,
        "experiment": asdict(SMALL),
        "other sizes": asdict(OTHER_SIZE),
        "rows": earlier | measure(arguments.only, verbose=arguments.names),
    }
    print("\n".join(table(report)))
    if all(any(name.startswith("tracking") for name in report.get(label, {}).get("rows", {})) for label in LABELS):
        print("\n".join(frame_table(report)))
    if out is not None:
        write_text(out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
