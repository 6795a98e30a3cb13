"""CMD's Tables 1 to 4 on RGB-T video composed from real pairs, over seeds, on one machine.

    python benchmarks/ablation.py --size gpu --pairs PAIRS --trunk resnet18.npz --jobs 6 --stage-minutes 9 \
        --runs runs/ablation --out benchmarks/results/ablation.json

Again and again until nothing is left: every run has a folder of its own and goes on where it stopped. In turn there are
trained, on video from the training pairs: one teacher, two trunks with MDC and FRS; students that try out learning
rates, alpha and beta, on the validation pairs' video (--choose stops here); all rows with what was best there. The
last checkpoint of each tracks the test pairs' video. No pair is in two of the three, and nothing is chosen on the test
video.

The test video is the same for all. A seed decides the student's weights and samples, and chance in tracking. The
teacher is one for all seeds, as in the paper. Gains and the share of the gap that is closed are taken seed by seed.

On another machine --measured REPORT takes over what a report of the same experiment has, and measures the rest; the
teacher is trained anew and must come out the same.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from parts.ablation.choice import CHOICE, choose, chosen_of, tries
from parts.ablation.earlier_report import check_teacher, import_report, teacher_digest
from parts.ablation.pool import pool
from parts.ablation.report import METRICS, choice_table, plot, summary, table
from parts.ablation.rows import CLAIMS, ROWS, STUDENT, TABLES, TEACHER
from parts.ablation.runs import (
    Experiment,
    Place,
    finished,
    read_scores,
    row_run,
    teacher_run,
    teacher_tracks,
)
from parts.ablation.sizes import SIZES, Chosen, Factors, Size, lasting
from parts.ablation.stage import Stage
from parts.ablation.video import described
from parts.claims import claims_table, verdicts
from parts.machine import machine

from mmdistill.reference.device import choose_device
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import write_text


def claim(root: Path, experiment: Experiment) -> None:
    """Mark a folder as this experiment's.

    Raises:
        DataError: it is another's.
    """
    mark = root / "experiment.json"
    own = experiment.described()
    if not mark.exists():
        write_text(mark, json.dumps(own, indent=2) + "\n")
    elif json.loads(mark.read_text()) != own:
        raise DataError(f"{root}: holds an experiment with other settings; give another --runs, or remove it")


def planned(tables: Sequence[str], only: Sequence[str] | None, seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Return rows and seeds in the order in which they are wanted: table by table, in each seed by seed."""
    wanted = dict.fromkeys(
        (row, seed) for name in tables for seed in seeds for row in TABLES[name] if only is None or row in only
    )
    return list(wanted)


def collected(experiment: Experiment, root: Path, seeds: Sequence[int], chosen: Chosen) -> dict[str, Any]:
    """Return all that these seeds have measured with what was chosen."""
    by_seed: dict[str, dict[str, Any]] = {}
    for seed in seeds:
        runs = {TEACHER: teacher_tracks(seed)}
        runs |= {name: row_run(experiment.size, name, seed, chosen) for name in ROWS}
        by_seed[str(seed)] = {name: found for name, run in runs.items() if (found := read_scores(run, root))}
    return {
        "teacher": teacher_digest(root),
        "rows": summary(by_seed),
        "claims": verdicts(CLAIMS, by_seed, METRICS),
        "parameters": {name: each["parameters"] for found in by_seed.values() for name, each in found.items()},
        "by seed": {seed: {name: _kept(each) for name, each in rows.items()} for seed, rows in by_seed.items()},
    }


def _kept(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report keeps of a run's scores; the rest lies in its folder."""
    return {name: value for name, value in scores.items() if name not in ("run", "sequences")}


def carry_on(
    stage: Stage, rows: Sequence[tuple[str, int]], given: Chosen | None, only_choose: bool
) -> dict[str, Any] | None:
    """Do what is left of the experiment until the stage is over; return the choice, if it was made."""
    size, root = stage.place.experiment.size, stage.place.root
    seeds = list(dict.fromkeys(seed for _, seed in rows))
    tracked = [teacher_tracks(seed) for seed in seeds]
    choice = _known_choice(root, given)
    tried = tries(size) if choice is None else []
    settled = len(size.factors) == 1 and not only_choose
    alone = [(name, seed) for name, seed in rows if settled and not ROWS[name].parts]
    with pool(stage.jobs) as each:
        untaught = [run for run in tried if run.distillation is None]
        untaught += [row_run(size, *row, chosen_of(None, size)) for row in alone]
        stage.do([teacher_run(size), *untaught], each)
        if not finished(teacher_run(size), root):
            stage.left.append("all that the teacher is needed for")
            return None
        check_teacher(root)
        if settled and alone == rows:  # nothing that is asked for depends on a choice
            stage.do(tracked, each)
            return None
        if choice is None and stage.do(tried, each):
            choice = choose(size, root) | {"chosen on": "validation sequences"}
            write_text(root / CHOICE, json.dumps(choice, indent=2) + "\n")
        if choice is None:
            stage.left.append("all that learning rate, alpha and beta are needed for")
        elif not only_choose:
            stage.do([*tracked, *(row_run(size, *row, chosen_of(choice, size)) for row in rows)], each)
    return choice


def _known_choice(root: Path, given: Chosen | None) -> dict[str, Any] | None:
    """Return what is given or was chosen before; None where it is to be chosen."""
    if given is not None:
        return asdict(given) | {"chosen on": "nothing: given", "tried": []}
    file = root / CHOICE
    found: dict[str, Any] | None = json.loads(file.read_text()) if file.exists() else None
    return found


def changed(size: Size, arguments: argparse.Namespace) -> Size:
    """Return the preset with what the command line has in place of its own."""

    def trained(training: TrainingSettings, steps: int | None) -> TrainingSettings:
        given = {name: getattr(arguments, name) for name in ("batch_size", "precision", "workers")}
        training = replace(training, **{name: value for name, value in given.items() if value is not None})
        return training if steps is None else lasting(training, steps)

    given = {name: getattr(arguments, name) for name in ("choice_steps", "teacher_depth")}
    return replace(
        size,
        teacher=trained(size.teacher, arguments.teacher_steps),
        student=trained(size.student, arguments.steps),
        factors=size.factors if arguments.factors is None else (Factors(*arguments.factors),),
        **{name: value for name, value in given.items() if value is not None},
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="cpu")
    parser.add_argument("--pairs", default="", help="folder of aligned pairs; without it all video is procedural")
    parser.add_argument("--trunk", default="", help="weights of the trunks; without it all start from random ones")
    parser.add_argument("--teacher-trunk", default="", help="weights of the teacher's trunks, if others")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), help="where runs live")
    parser.add_argument("--out", type=Path, help="file for the report; a plot is written beside it")
    parser.add_argument("--measured", type=Path, metavar="REPORT", help="take over what it has of this experiment")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=["1", "4", "2", "3"], help="in this order")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=f"these rows alone: {', '.join(ROWS)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--stage-minutes", type=float, help="stop in good order after so long")
    parser.add_argument("--choose", action="store_true", help="stop when learning rate, alpha and beta are chosen")
    parser.add_argument(
        "--factors",
        type=float,
        nargs=2,
        metavar=("TRUNK", "FUSION"),
        help="on the size's learning rates, of trunk and adaptors and of the fusion; choose none",
    )
    parser.add_argument("--alpha", type=float, help="with --beta and --factors: take these, choose none")
    parser.add_argument("--beta", type=float)
    parser.add_argument("--jobs", type=int, default=1, help="how many runs at once")
    parser.add_argument("--threads", type=int, default=1, help="of each")
    parser.add_argument("--device", default="auto")
    changes = parser.add_argument_group("in place of the size's")
    changes.add_argument("--steps", type=int, help="of a student")
    changes.add_argument("--teacher-steps", type=int)
    changes.add_argument("--choice-steps", type=int)
    changes.add_argument("--teacher-depth", type=int, choices=(18, 50))
    changes.add_argument("--batch-size", type=int, help="sequences per batch")
    changes.add_argument("--precision", choices=("float32", "bfloat16"))
    changes.add_argument("--workers", type=int, help="processes that prepare batches, of each run")
    arguments = parser.parse_args()
    if (arguments.alpha is None) != (arguments.beta is None):
        parser.error("--alpha and --beta: give both or neither")
    if arguments.alpha is not None and arguments.factors is None and len(SIZES[arguments.size].factors) > 1:
        parser.error("--alpha and --beta: give --factors too, which this size would choose")
    return arguments


def main() -> None:
    arguments = parse()
    start = time.time()
    size = changed(SIZES[arguments.size], arguments)
    experiment = Experiment(size, arguments.pairs, arguments.trunk, arguments.teacher_trunk)
    end = start + 60 * arguments.stage_minutes if arguments.stage_minutes is not None else float("inf")
    device = choose_device(arguments.device).type
    claim(arguments.runs, experiment)
    if arguments.measured is not None:
        import_report(arguments.measured, arguments.runs, experiment)
    data = described(experiment.videos)
    place = Place(experiment, arguments.runs, device, arguments.threads, end, progress=arguments.jobs == 1)
    stage = Stage(place, arguments.jobs)
    rows = planned(arguments.tables, arguments.only, arguments.seeds)
    given = Chosen(size.factors[0], arguments.alpha, arguments.beta) if arguments.alpha is not None else None
    try:
        choice = carry_on(stage, rows, given, arguments.choose)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
    report = {
        "machine": machine() | {"device": device, "jobs": arguments.jobs, "threads": arguments.threads},
        "experiment": experiment.described(),
        "data": data,
        "choice": choice,
        **collected(experiment, arguments.runs, arguments.seeds, chosen_of(choice, size)),
        "left": stage.left,
    }
    if arguments.out is not None:
        write_text(arguments.out, json.dumps(report, indent=2) + "\n")
    if choice is not None and choice["tried"]:
        print("\nTried on the validation sequences\n\n" + "\n".join(choice_table(report)))
    if {TEACHER, STUDENT} & report["rows"].keys():
        for name in arguments.tables:
            print(f"\nTable {name}\n\n" + "\n".join(table(report, name)))
        print("\nThe paper's claims\n\n" + "\n".join(claims_table(report["claims"], METRICS)))
        if arguments.out is not None:
            plot(report, arguments.out.with_suffix(".png"))
    print(f"\n{(time.time() - start) / 60:.1f} minutes; " + ("left:" if stage.left else "nothing is left"))
    for what in stage.left:
        print(f"  {what}")
    if stage.failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
