"""Measures on validation video why CMD closes no more of the gap and why a part does not help.

Each variant changes one setting of what the ablation chose, with the ablation's teacher from --work-dir. One seed, so
the results are hints only. Results that --out already has from the same experiment are kept. Takes ten minutes per
variant on one core, half an hour for those with three times the steps.

Example:
    python benchmarks/ablation_causes.py --pairs PAIRS --trunk resnet18.npz --work-dir runs/ablation \
        --ablation benchmarks/results/ablation.json --out benchmarks/results/ablation_causes.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from parts.ablation.causes import VARIANTS, half_trained_teacher_run
from parts.ablation.choice import read_weights
from parts.ablation.execution import CONFIDENCE, CONFIDENCE_PARTS, RunContext, Stage, add_execution_options
from parts.ablation.pool import pool
from parts.ablation.report import FIGURES
from parts.ablation.report_import import teacher_digest
from parts.ablation.rows import CMD
from parts.ablation.runs import TEACHER_RUN, Experiment, Run, finished, read_scores
from parts.ablation.sizes import SIZES
from parts.report_fields import machine

from mmdistill.reference.device import choose_device
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import write_text

REPORTED = (*FIGURES, CONFIDENCE)
"""Scores of each variant in the report."""


def table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of each variant's figures."""
    lines = ["| Variant, validation video, one seed | PR | NPR | SR |", "| --- | ---: | ---: | ---: |"]
    for name, variant in VARIANTS.items():
        scores = report["variants"].get(name)
        cells = ["not measured"] * 3 if scores is None else [f"{scores[figure]:.1f}" for figure in FIGURES]
        lines.append(f"| {variant.title} | {' | '.join(cells)} |")
    return lines


def confidence_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of each measured variant's confidence."""
    lines = [
        "| Variant, validation video, one seed | Score on the target | Score off the target | Frames below 0.25 |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, variant in VARIANTS.items():
        confidence = report["variants"].get(name, {}).get(CONFIDENCE)
        if confidence is not None:
            on, off, not_found = (confidence[part] for part in CONFIDENCE_PARTS)
            scores = ["none" if score is None else f"{score:.2f}" for score in (on, off)]
            lines.append(f"| {variant.title} | {' | '.join(scores)} | {not_found:.0f} % |")
    return lines


def read_earlier(file: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variants of an earlier report of the same experiment; empty otherwise."""
    if not file.exists():
        return {}
    report = json.loads(file.read_text())
    variants: dict[str, Any] = report["variants"]
    return variants if all(report[name] == value for name, value in identity.items()) else {}


def run_variants(context: RunContext, runs: Mapping[str, Run], jobs: int) -> tuple[dict[str, Any], Sequence[str]]:
    """Execute runs; return the scores of the finished ones, and the unfinished ones as text."""
    stage = Stage(context, jobs)
    half_trained = half_trained_teacher_run(context.experiment.size)
    dependent = [run for run in runs.values() if run.teacher == half_trained.folder]
    others = [run for run in runs.values() if run not in dependent]
    teachers = [half_trained] if dependent else []
    with pool(jobs, context.end) as map_runs:
        stage.execute([*teachers, *others], map_runs)
        if all(finished(run, context.root) for run in teachers):
            stage.execute(dependent, map_runs)
        else:
            stage.unfinished.append(f"all runs that need {half_trained.folder}")
    if stage.failed:
        raise DataError("; ".join(stage.unfinished))
    by_name = {name: scores for name, run in runs.items() if (scores := read_scores(run, context.root))}
    return {name: {part: scores[part] for part in REPORTED} for name, scores in by_name.items()}, stage.unfinished


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ablation", type=Path, required=True, help="the ablation's JSON report")
    parser.add_argument("--pairs", default="", help="folder of pairs, as in the ablation")
    parser.add_argument("--trunk", default="", help="trunk weights, as in the ablation")
    parser.add_argument("--work-dir", type=Path, required=True, help="the ablation's folder, with its teacher")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=VARIANTS,
        default=list(VARIANTS),
        metavar="VARIANT",
        help=f"only these variants: {', '.join(VARIANTS)}",
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON report")
    add_execution_options(parser)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    ablation = json.loads(arguments.ablation.read_text())
    size = SIZES[ablation["experiment"]["size"]["name"]]
    given_teacher = ablation["experiment"].get("given_teacher", "")
    experiment = Experiment(size, arguments.pairs, arguments.trunk, given_teacher=given_teacher)
    if experiment.describe() != ablation["experiment"]:
        sys.exit(f"{arguments.ablation}: measured with other settings, pairs or trunk")
    if teacher_digest(arguments.work_dir) != ablation["teacher"]:
        folder = arguments.work_dir / TEACHER_RUN
        sys.exit(f"{folder}: expected the teacher of {arguments.ablation}; train it with ablation.py")
    chosen = read_weights(ablation["choice"], CMD)
    if chosen is None:
        sys.exit(f"{arguments.ablation}: expected chosen weights of CMD, got none")
    identity = {"teacher": ablation["teacher"], "chosen": json.loads(json.dumps(asdict(chosen)))}
    earlier = read_earlier(arguments.out, identity)
    runs = {name: VARIANTS[name].run(name, size, chosen) for name in arguments.only if name not in earlier}
    device = choose_device(arguments.device).type
    end = time.time() + 60 * arguments.time_limit
    context = RunContext(experiment, arguments.work_dir, device, arguments.threads, end, progress=arguments.jobs == 1)
    try:
        measured, unfinished = run_variants(context, runs, arguments.jobs)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
    report = {"machine": machine(), **identity, "variants": earlier | measured, "unfinished": unfinished}
    write_text(arguments.out, json.dumps(report, indent=2) + "\n")
    print("\n".join([*table(report), "", *confidence_table(report), "", f"unfinished: {len(unfinished)}", *unfinished]))


if __name__ == "__main__":
    main()
