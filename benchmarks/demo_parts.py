"""Measures the effect of each part of CMD on the demo's student, over several seeds.

Trains for each seed the demo's teacher, its student alone, and the student with each part and with all parts, with the
default weights of ``DistillationSettings``. A last row has means in place of sums. Every seed has its own videos, so
that an interval over seeds covers the choice of videos too. The same command resumes. Takes a quarter of an hour per
seed on one core.

Example:
    python benchmarks/demo_parts.py --work-dir runs/demo_parts --out benchmarks/results/demo_parts.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from parts.crossed_statistics import compare, format_cell
from parts.report_fields import machine
from parts.seed_statistics import format_mean, mean_and_deviation

from mmdistill.reference.demo.experiment import DemoSettings, Experiment
from mmdistill.reference.training.settings import DistillationSettings
from mmdistill.toolkit.io import write_text

STUDENT = "student"

VARIANTS: dict[str, DistillationSettings | None] = {
    STUDENT: None,
    "+ all (CMD)": DistillationSettings(),
    "+ SCFD": DistillationSettings(parts=("scfd",)),
    "+ MPSD": DistillationSettings(parts=("mpsd",)),
    "+ HFRD": DistillationSettings(parts=("hfrd",)),
    "+ all, means, alpha 100": DistillationSettings(alpha=100.0, reduction="mean"),
}
"""Rows by name: the distillation's settings; None without a teacher."""

METRICS = ("PR", "SR")


def run_seed(
    seed: int, out: Path, settings: DemoSettings, variants: dict[str, DistillationSettings | None]
) -> dict[str, dict[str, float]]:
    """Return PR, NPR and SR of the teacher and each variant."""
    experiment = Experiment(out / f"seed_{seed}", seed, settings)
    teacher = experiment.teacher()
    contenders = [teacher]
    for name, distillation in variants.items():
        guide = teacher.network if distillation else None
        contenders.append(experiment.student(name, guide, distillation))
    return {contender.name: contender.scores.overall.rates() for contender in contenders}


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table: mean and standard deviation, and the gain on the student alone.

    A gain has its 95 % t interval over seeds and its verdict.
    """
    lines = ["| Tracker | PR | SR | PR gain | SR gain |", "| --- | --- | --- | --- | --- |"]
    seeds = report["seeds"]
    for name in next(iter(seeds.values())):
        title = {"teacher": "teacher", STUDENT: "student alone"}.get(name, f"student {name}")
        cells = [format_mean(mean_and_deviation([rates[name][each] for rates in seeds.values()])) for each in METRICS]
        gains = [compare(seeds, name, STUDENT, each) for each in METRICS if name in VARIANTS and name != STUDENT]
        cells += [format_cell(gain) for gain in gains if gain is not None] or ["", ""]
        lines.append(f"| {' | '.join([title, *cells])} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="seeds; default 0 to 4")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/demo_parts"), help="folder of the runs")
    parser.add_argument("--out", type=Path, help="JSON report")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="rows; default all")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; default 1")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = DemoSettings()
    variants = {name: VARIANTS[name] for name in arguments.variants}
    figures = {str(seed): run_seed(seed, arguments.work_dir, settings, variants) for seed in arguments.seeds}
    report = {"machine": machine(), "threads": arguments.threads, "seeds": figures}
    print("\n".join(table(report)))
    if arguments.out:
        write_text(arguments.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
