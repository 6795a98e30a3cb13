"""Measures the effect of each part of CMD on the demo's student, over several seeds.

Trains for each seed the demo's teacher, its student alone, and the student with each part, with all parts, and with all
parts at alpha 0.001. SCFD and MPSD are means over the map; in the other rows their alpha is 100. All other settings are
those of ``mmdistill demo``. The same command resumes. Takes a quarter of an hour per seed on one core.

Example:
    python benchmarks/demo_parts.py --seeds 0 1 2 --work-dir runs/demo_parts --out benchmarks/results/demo_parts.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from parts.report_fields import machine
from parts.seed_statistics import format_mean, mean_and_deviation

from mmdistill.reference.demo.experiment import DemoSettings, Experiment
from mmdistill.reference.training.settings import DistillationSettings
from mmdistill.toolkit.io import write_text

MEANS: dict[str, Any] = {"alpha": 100.0, "reduction": "mean"}
"""Weights of the rows in the committed report, which is older than the default ``reduction="sum"``."""

VARIANTS: dict[str, DistillationSettings | None] = {
    "student": None,
    "+ all (CMD)": DistillationSettings(**MEANS),
    "+ SCFD": DistillationSettings(parts=("scfd",), **MEANS),
    "+ MPSD": DistillationSettings(parts=("mpsd",), **MEANS),
    "+ HFRD": DistillationSettings(parts=("hfrd",), **MEANS),
    "+ all, alpha as published": DistillationSettings(alpha=1e-3, reduction="mean"),
}


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
    """Return the lines of a Markdown table of PR and SR, mean and standard deviation over seeds."""
    lines = ["| Tracker | PR | SR |", "|---|---|---|"]
    by_seed = list(report["seeds"].values())
    for name in by_seed[0]:
        title = {"teacher": "teacher", "student": "student alone"}.get(name, f"student {name}")
        cells = [format_mean(mean_and_deviation([rates[name][figure] for rates in by_seed])) for figure in ("PR", "SR")]
        lines.append(f"| {' | '.join([title, *cells])} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds; default 0 1 2")
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
