"""Measures whether MPSD blocks select among their paths, with and without normalized maxima, and how they track.

Trains students with each ``MPSDFusion(normalize=...)``: from a random trunk (the ablation's preset "cpu") and from an
ImageNet trunk ("pretrained"), with the tracker's own loss alone and with distillation. Records the path weights every
50 steps. Each student then tracks the validation video, and its path weights are measured on samples of it. The test
video is not used. The same command resumes; the report is written after each run. Took 6 minutes on one GPU with 16
cores.

Example:
    python benchmarks/mpsd_selection.py --pairs PAIRS --trunk resnet18.npz --jobs 12 --time-limit 8 \
        --work-dir runs/selection --out benchmarks/results/mpsd_selection.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from parts.ablation.execution import RunContext, add_execution_options
from parts.ablation.rows import Weights
from parts.ablation.runs import Experiment, mark_folder, teacher_run
from parts.ablation.sizes import SIZES, Size, with_steps
from parts.report_fields import machine
from parts.selection.report import rms_table, scores_table, selection_table, summary
from parts.selection.rows import GROUPS, SIZE_OF, VARIANTS, Group, all_runs, student_run
from parts.selection.scheduling import execute_all, read_measurement

from mmdistill.reference.device import choose_device
from mmdistill.toolkit.io import write_text

TEACHER = "teacher"


def override_size(size: Size, arguments: argparse.Namespace) -> Size:
    """Return the preset with the command line's values."""
    student = size.student if arguments.steps is None else with_steps(size.student, arguments.steps)
    teacher = size.teacher if arguments.teacher_steps is None else with_steps(size.teacher, arguments.teacher_steps)
    student, teacher = (replace(training, workers=arguments.workers) for training in (student, teacher))
    if arguments.precision is not None:
        student, teacher = (replace(training, precision=arguments.precision) for training in (student, teacher))
    videos = size.validation if arguments.videos is None else (arguments.videos, arguments.videos // 3)
    return replace(size, student=student, teacher=teacher, validation=videos, batch_size=arguments.batch_size)


def parse_arguments() -> argparse.Namespace:
    names = [f"{group.start}-{group.distilled_with}" for group in GROUPS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default="", help="folder of aligned pairs; without it all video is procedural")
    parser.add_argument("--trunk", default="", help="ImageNet weights of the students' and the teacher's trunks")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/selection"), help="folder of the runs")
    parser.add_argument("--out", type=Path, required=True, help="JSON report")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names[:4], help="only these students, in this order"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="2 to 10 seeds; default 0 1 2")
    parser.add_argument(
        "--alpha", type=float, default=1e-3, help="weight of SCFD and MPSD, which are sums; default 0.001"
    )
    parser.add_argument("--beta", type=float, default=100.0, help="weight of HFRD, default as chosen by the ablation")
    parser.add_argument("--steps", type=int, help="training steps of a student; replaces the preset's")
    parser.add_argument("--teacher-steps", type=int, help="training steps of the teacher; replaces the preset's")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), help="training precision; replaces the preset's"
    )
    parser.add_argument("--videos", type=int, help="composed validation videos; a third as many procedural ones")
    parser.add_argument(
        "--batch-size", type=int, default=16, help="videos per batch in tracking; does not change results"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare batches, per run")
    add_execution_options(parser)
    return parser.parse_args()


def collect_results(
    groups: Sequence[Group], arguments: argparse.Namespace, contexts: dict[str, RunContext]
) -> dict[str, Any]:
    """Return the results of finished runs by group, variant and seed."""
    results: dict[str, Any] = {group.title: {variant: {} for variant in VARIANTS} for group in groups}
    for group, variant, seed in all_runs(groups, arguments.seeds):
        context = contexts[group.start]
        run = student_run(group, variant, seed, context.experiment.size, Weights(arguments.alpha, arguments.beta))
        if (each := read_measurement(run, context)) is not None:
            results[group.title][variant][str(seed)] = each
    return {"rows": summary(results), "runs": results}


def main() -> None:
    arguments = parse_arguments()
    start = time.time()
    groups = [group for name in arguments.only for group in GROUPS if f"{group.start}-{group.distilled_with}" == name]
    device = choose_device(arguments.device).type
    end = start + 60 * arguments.time_limit
    contexts: dict[str, RunContext] = {}
    for name, preset in SIZE_OF.items():
        experiment = Experiment(override_size(SIZES[preset], arguments), arguments.pairs, arguments.trunk)
        contexts[name] = RunContext(
            experiment, arguments.work_dir, device, arguments.threads, end, progress=arguments.jobs == 1
        )
    contexts[TEACHER] = contexts["random"]
    experiments: dict[str, Any] = {name: contexts[name].experiment.describe() for name in SIZE_OF}
    mark_folder(arguments.work_dir, experiments)
    runs = [
        student_run(
            group,
            variant,
            seed,
            contexts[group.start].experiment.size,
            Weights(arguments.alpha, arguments.beta),
        )
        for group, variant, seed in all_runs(groups, arguments.seeds)
    ]
    if any(run.distillation is not None for run in runs):
        runs.insert(0, teacher_run(contexts[TEACHER].experiment.size))

    def write(unfinished: Sequence[str] = ("the runs that are not listed",)) -> dict[str, Any]:
        report = {
            "machine": machine() | {"device": device, "jobs": arguments.jobs, "threads": arguments.threads},
            "experiments": experiments,
            "weights": {"alpha": arguments.alpha, "beta": arguments.beta},
            **collect_results(groups, arguments, contexts),
            "minutes": round((time.time() - start) / 60, 1),
            "unfinished": list(unfinished),
        }
        write_text(arguments.out, json.dumps(report, indent=2) + "\n")
        return report

    unfinished = execute_all(runs, contexts, arguments.jobs, write)
    report = write(unfinished)
    print("\n".join(["", *selection_table(report), "", *scores_table(report), "", *rms_table(report), ""]))
    print("\n".join([f"{report['minutes']} minutes; unfinished: {len(unfinished)}", *unfinished]))


if __name__ == "__main__":
    main()
