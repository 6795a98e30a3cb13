"""Measures CMD's Tables 1 to 4 on RGB-T video composed from pairs of images, over seeds, on one machine.

Trains one teacher and the students that need none. Then students try CMD's alpha and beta, and the weight of each
baseline, on validation video. The student of each row is trained with the best of these. Each last checkpoint tracks
the test video. Training, validation and test share no pair, and nothing is chosen on the test video. The teacher and
the test video are the same for all seeds.

Every run resumes from its checkpoint: repeat the command until nothing is unfinished. With --size gpu and the options
in docs/how_far_from_the_paper.md it took 12 minutes on one GPU. The time of the other presets is not recorded.

Example:
    python benchmarks/ablation.py --size gpu --pairs PAIRS --trunk resnet18.npz --jobs 6 --time-limit 9 \
        --work-dir runs/ablation --out benchmarks/results/ablation.json
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from parts.ablation.choice import (
    Choices,
    choices_of,
    choose,
    given,
    read_choices,
    read_weights,
    trial_runs,
    write_choice,
)
from parts.ablation.execution import RunContext, Stage, add_execution_options
from parts.ablation.pool import pool
from parts.ablation.report import METRICS, choice_table, compact_json, plot, reported_scores, summary, table
from parts.ablation.report_import import check_teacher, import_report, teacher_digest
from parts.ablation.rows import CLAIMS, CMD, ROWS, STUDENT, TABLES, TEACHER, Weights
from parts.ablation.runs import (
    Experiment,
    finished,
    mark_folder,
    read_scores,
    row_run,
    teacher_run,
    teacher_tracking_run,
)
from parts.ablation.sizes import SIZES, RateFactors, Size, with_steps
from parts.ablation.teacher_import import copy_teacher, use_teacher
from parts.ablation.video import describe
from parts.crossed_statistics import claim_results, claims_table
from parts.report_fields import machine

from mmdistill.reference.device import choose_device
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.toolkit.io import write_text


def plan_rows(tables: Sequence[str], only: Sequence[str] | None, seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Return rows and seeds in order of execution: table by table, and seed by seed in each."""
    rows = dict.fromkeys(
        (row, seed) for name in tables for seed in seeds for row in TABLES[name] if only is None or row in only
    )
    return list(rows)


def collect_results(experiment: Experiment, root: Path, seeds: Sequence[int], choices: Choices) -> dict[str, Any]:
    """Return the results of all finished runs of these seeds with the chosen weights."""
    weights = {name: chosen for name in ROWS if (chosen := read_weights(choices, name)) is not None}
    by_seed: dict[str, dict[str, Any]] = {}
    names: list[str] = []
    for seed in seeds:
        runs = {TEACHER: teacher_tracking_run(seed)}
        runs |= {name: row_run(experiment.size, name, seed, chosen) for name, chosen in weights.items()}
        by_seed[str(seed)] = {}
        for name, run in runs.items():
            if scores := read_scores(run, root):
                names = names or list(scores["sequences"])
                by_seed[str(seed)][name] = reported_scores(scores, names)
    return {
        "teacher": teacher_digest(root),
        "rows": summary(by_seed),
        "claims": claim_results(CLAIMS, by_seed, METRICS),
        "parameters": {name: each["parameters"] for rows in by_seed.values() for name, each in rows.items()},
        "sequences": names,
        "by seed": by_seed,
    }


def run_stage(
    stage: Stage, rows: Sequence[tuple[str, int]], fixed: Mapping[str, Any], only_choose: bool
) -> dict[str, Any]:
    """Execute unfinished runs until the time limit; return the choices that are made.

    The teacher and the students without one come first. A row follows as soon as its weights are chosen.

    Args:
        stage: executes the runs.
        rows: rows and seeds in order of execution.
        fixed: choices that were given on the command line.
        only_choose: whether to stop after the choices.
    """
    size, root = stage.context.experiment.size, stage.context.root
    choices = read_choices(root) | dict(fixed)
    tracking = [teacher_tracking_run(seed) for seed in dict.fromkeys(seed for _, seed in rows)]
    alone = [] if only_choose else [row_run(size, *row, Weights()) for row in rows if not ROWS[row[0]].parts]
    with pool(stage.jobs, stage.context.end) as map_runs:
        stage.execute([teacher_run(size), *alone], map_runs)
        if not finished(teacher_run(size), root):
            stage.unfinished.append("all runs that need the teacher")
            return choices
        check_teacher(root)
        ready = [] if only_choose else tracking
        for name in choices_of(row for row, _ in rows):
            trials = trial_runs(size, name) if name not in choices else []
            stage.execute([*ready, *trials], map_runs)  # together, so that no process waits
            ready = []
            if trials and all(finished(run, root) for run in trials):
                choices[name] = choose(size, name, root)
                write_choice(root, name, choices[name])
            if name not in choices:
                stage.unfinished.append(f"all runs that need the weights chosen on {name}")
            elif not only_choose:
                weights = read_weights(choices, name)
                assert weights is not None
                ready = [row_run(size, *row, weights) for row in rows if ROWS[row[0]].chosen_on == name]
        stage.execute(ready, map_runs)
    return choices


def override_size(size: Size, arguments: argparse.Namespace) -> Size:
    """Return the preset with the command line's values."""

    def override(training: TrainingSettings, steps: int | None) -> TrainingSettings:
        values = {name: getattr(arguments, name) for name in ("batch_size", "precision", "workers")}
        training = replace(training, **{name: value for name, value in values.items() if value is not None})
        return training if steps is None else with_steps(training, steps)

    values = {name: getattr(arguments, name) for name in ("choice_steps", "teacher_depth")}
    return replace(
        size,
        teacher=override(size.teacher, arguments.teacher_steps),
        student=override(size.student, arguments.steps),
        factors=size.factors if arguments.rate_factors is None else RateFactors(*arguments.rate_factors),
        **{name: value for name, value in values.items() if value is not None},
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="cpu", help="preset of all settings; default cpu")
    parser.add_argument("--pairs", default="", help="folder of aligned RGB-T pairs; without it video is procedural")
    parser.add_argument("--trunk", default="", help="ImageNet weights of the trunks; default random weights")
    parser.add_argument("--teacher-trunk", default="", help="weights of the teacher's trunks; default --trunk")
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="FILE_OR_WORK_DIR",
        help="use this teacher instead of training one: a weights file, or the --work-dir of an experiment with the "
        "same teacher. Of a file it is not known whether it was trained on the test pairs",
    )
    parser.add_argument("--work-dir", type=Path, default=Path("runs/ablation"), help="folder of the runs")
    parser.add_argument("--out", type=Path, help="JSON report; the plot is written next to it")
    parser.add_argument(
        "--import-report", type=Path, metavar="REPORT", help="import the finished rows of this experiment's report"
    )
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=["1", "4", "2", "3"], help="tables, in order")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=f"only these rows: {', '.join(ROWS)}")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="seeds of the students; default 0 to 4"
    )
    parser.add_argument("--only-choose", action="store_true", help="stop after the choice of weights")
    parser.add_argument(
        "--rate-factors",
        type=float,
        nargs=2,
        metavar=("TRUNK", "FUSION"),
        help="factors on the students' learning rates of trunk and fusion. Example: 2.5 1",
    )
    parser.add_argument("--alpha", type=float, help="CMD's weight on features; with --beta, skips CMD's choice")
    parser.add_argument("--beta", type=float, help="CMD's weight on scores")
    parser.add_argument(
        "--reuse",
        action="store_true",
        help="compute samples and the teacher's features once for all rows of a seed, and keep them in reused/ in "
        "--work-dir, which you may remove afterwards. With --size cpu: half the time, 7 GB for each seed",
    )
    add_execution_options(parser)
    changes = parser.add_argument_group("replace values of --size")
    changes.add_argument("--steps", type=int, help="training steps of a student")
    changes.add_argument("--teacher-steps", type=int, help="training steps of the teacher")
    changes.add_argument("--choice-steps", type=int, help="training steps of the trials")
    changes.add_argument("--teacher-depth", type=int, choices=(18, 50), help="ResNet depth of the teacher's trunks")
    changes.add_argument("--batch-size", type=int, help="samples per batch")
    changes.add_argument("--precision", choices=("float32", "bfloat16"), help="precision of the training")
    changes.add_argument("--workers", type=int, help="processes that prepare batches, per run")
    arguments = parser.parse_args()
    if (arguments.alpha is None) != (arguments.beta is None):
        parser.error("--alpha and --beta: give both or neither")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    start = time.time()
    size = override_size(SIZES[arguments.size], arguments)
    rows = plan_rows(arguments.tables, arguments.only, arguments.seeds)
    experiment = Experiment(size, arguments.pairs, arguments.trunk, arguments.teacher_trunk)
    if arguments.teacher is not None:
        experiment = use_teacher(arguments.teacher, experiment, [row for row, _ in rows])
    end = start + 60 * arguments.time_limit
    device = choose_device(arguments.device).type
    mark_folder(arguments.work_dir, experiment.describe())
    if arguments.teacher is not None:
        copy_teacher(arguments.teacher, arguments.work_dir)
    if arguments.import_report is not None:
        import_report(arguments.import_report, arguments.work_dir, experiment)
    data = describe(experiment.videos)
    progress = arguments.jobs == 1
    context = RunContext(
        experiment, arguments.work_dir, device, arguments.threads, end, progress, reuse=arguments.reuse
    )
    stage = Stage(context, arguments.jobs)
    fixed = {} if arguments.alpha is None else {CMD: given(Weights(arguments.alpha, arguments.beta))}
    try:
        choices = run_stage(stage, rows, fixed, arguments.only_choose)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
    report = {
        "machine": machine() | {"device": device, "jobs": arguments.jobs, "threads": arguments.threads},
        "experiment": experiment.describe(),
        "data": data,
        "choice": choices,
        **collect_results(experiment, arguments.work_dir, arguments.seeds, choices),
        "unfinished": stage.unfinished,
    }
    if arguments.out is not None:
        write_text(arguments.out, compact_json(report) + "\n")
    if any(choice["trials"] for choice in choices.values()):
        print("\nTrials on the validation sequences\n\n" + "\n".join(choice_table(report)))
    if {TEACHER, STUDENT} & report["rows"].keys():
        for name in arguments.tables:
            print(f"\nTable {name}\n\n" + "\n".join(table(report, name)))
        print("\nThe paper's claims\n\n" + "\n".join(claims_table(CLAIMS, {"": report}, METRICS)))
        if arguments.out is not None:
            plot(report, arguments.out.with_suffix(".png"))
    minutes = (time.time() - start) / 60
    print("\n  ".join([f"\n{minutes:.1f} minutes; unfinished: {len(stage.unfinished)}", *stage.unfinished]))
    if stage.failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
