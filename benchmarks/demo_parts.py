"""What each part of CMD does to the demonstration's student, over several seeds.

For each seed: the demonstration's teacher, its student alone, and the student distilled with each part on its own,
with all of them, and with all at the paper's alpha; everything else is as in ``mmdistill demo``. Goes on where it
stopped.

    python benchmarks/demo_parts.py --seeds 0 1 2 --out runs/demo_parts --json benchmarks/results/demo_parts.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from parts.machine import machine
from parts.spread import mean_and_deviation, with_spread

from mmdistill.reference.demo.experiment import DemoSettings, Experiment
from mmdistill.reference.training.settings import DistillationSettings
from mmdistill.toolkit.io import write_text

VARIANTS: dict[str, DistillationSettings | None] = {
    "student": None,
    "+ all (CMD)": DistillationSettings(),
    "+ SCFD": DistillationSettings(parts=("scfd",)),
    "+ MPSD": DistillationSettings(parts=("mpsd",)),
    "+ HFRD": DistillationSettings(parts=("hfrd",)),
    "+ all, alpha as published": DistillationSettings(alpha=1e-3),
}


def run_seed(
    seed: int, out: Path, settings: DemoSettings, variants: dict[str, DistillationSettings | None]
) -> dict[str, dict[str, float]]:
    """Return PR, NPR and SR of the teacher and each variant."""
    experiment = Experiment(out / f"seed_{seed}", seed, settings)
    teacher = experiment.teacher()
    found = [teacher]
    for name, distillation in variants.items():
        guide = teacher.network if distillation else None
        found.append(experiment.student(name, guide, distillation))
    return {contender.name: contender.scores.overall.rates() for contender in found}


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of PR and SR, mean and standard deviation over seeds."""
    lines = ["| Tracker | PR | SR |", "|---|---|---|"]
    by_seed = list(report["seeds"].values())
    for name in by_seed[0]:
        title = {"teacher": "teacher", "student": "student alone"}.get(name, f"student {name}")
        cells = [with_spread(mean_and_deviation([found[name][figure] for found in by_seed])) for figure in ("PR", "SR")]
        lines.append(f"| {' | '.join([title, *cells])} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/demo_parts"))
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="which rows")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = DemoSettings()
    variants = {name: VARIANTS[name] for name in arguments.variants}
    figures = {str(seed): run_seed(seed, arguments.out, settings, variants) for seed in arguments.seeds}
    report = {"machine": machine(), "threads": arguments.threads, "seeds": figures}
    print("\n".join(table(report)))
    if arguments.json:
        write_text(arguments.json, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
