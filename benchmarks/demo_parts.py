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

import numpy as np
import torch
from parts.machine import machine

from mmdistill.reference.demo import Contender, DemoSettings, Experiment
from mmdistill.reference.evaluation.table import format_table
from mmdistill.reference.files import write_text
from mmdistill.reference.training.stages import DistillationSettings

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
    teacher = finished(experiment.teacher())
    found = [teacher]
    for name, distillation in variants.items():
        guide = teacher.network if distillation else None
        found.append(finished(experiment.student(name, guide, distillation)))
    return {contender.name: contender.scores.overall.figures() for contender in found}


def finished(contender: Contender | None) -> Contender:
    """Return the contender, or leave where an interruption came first."""
    if contender is None:
        raise SystemExit("interrupted; the same command goes on from here")
    return contender


def summary(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return mean and spread (standard deviation over seeds) of PR and SR as a table."""
    rows: list[list[str | float]] = []
    for name in next(iter(figures.values())):
        values = np.array([[by_name[name]["PR"], by_name[name]["SR"]] for by_name in figures.values()])
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(2, np.nan)
        rows.append([name, *(f"{m:.1f} +- {s:.1f}" for m, s in zip(values.mean(axis=0), spread, strict=True))])
    return format_table(["tracker", "PR", "SR"], rows)


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
    print(summary(figures))
    if arguments.json:
        write_text(
            arguments.json,
            json.dumps({"machine": machine(), "threads": arguments.threads, "seeds": figures}, indent=2) + "\n",
        )


if __name__ == "__main__":
    main()
