"""Why CMD closes no more of the gap, and why a part does not help: what was suspected, tried on the validation video.

    python benchmarks/ablation_causes.py --pairs PAIRS --trunk resnet18.npz --runs runs/ablation \
        --ablation benchmarks/results/ablation.json --out benchmarks/results/ablation_causes.json

Each try differs in one thing from what the ablation chose, and the ablation's teacher, which ``--runs`` holds, teaches
it. One seed, that of the choice: a hint, where the tables are the evidence. What ``--out`` has already of the same
experiment is kept.
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

from parts.ablation.causes import TRIES, half_trained_teacher_run
from parts.ablation.choice import chosen_of
from parts.ablation.confidence import CONFIDENCE, NAMES
from parts.ablation.earlier_report import teacher_digest
from parts.ablation.pool import pool
from parts.ablation.report import FIGURES
from parts.ablation.runs import TEACHER_RUN, Experiment, Place, Run, finished, read_scores
from parts.ablation.sizes import SIZES
from parts.ablation.stage import Stage
from parts.machine import machine

from mmdistill.reference.device import choose_device
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import write_text

KEPT = (*FIGURES, CONFIDENCE)
"""What is kept of each try."""


def table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of what was tried, as far as it is measured."""
    lines = ["| Tried on validation video, one seed | PR | NPR | SR |", "| --- | ---: | ---: | ---: |"]
    for name, each in TRIES.items():
        found = report["tries"].get(name)
        cells = ["not measured"] * 3 if found is None else [f"{found[figure]:.1f}" for figure in FIGURES]
        lines.append(f"| {each.title} | {' | '.join(cells)} |")
    return lines


def confidence_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of how sure the tried trackers are, as far as it is measured."""
    lines = [
        "| Tried on validation video, one seed | Score on the target | Score off it | Below the threshold |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, each in TRIES.items():
        found = report["tries"].get(name, {}).get(CONFIDENCE)
        if found is not None:
            on, off, lost = (found[part] for part in NAMES)
            scores = ["none" if score is None else f"{score:.2f}" for score in (on, off)]
            lines.append(f"| {each.title} | {' | '.join(scores)} | {lost:.0f} % |")
    return lines


def kept(file: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report has measured already, if it is about the same."""
    if not file.exists():
        return {}
    before = json.loads(file.read_text())
    same = all(before[name] == value for name, value in about.items())
    tries: dict[str, Any] = before["tries"] if same else {}
    return tries


def carry_on(place: Place, runs: Mapping[str, Run], jobs: int) -> tuple[dict[str, Any], Sequence[str]]:
    """Carry out runs; return what those that are finished measured, and what is left."""
    stage = Stage(place, jobs)
    half_trained = half_trained_teacher_run(place.experiment.size)
    waiting = [run for run in runs.values() if run.teacher == half_trained.folder]
    others = [run for run in runs.values() if run not in waiting]
    teachers = [half_trained] if waiting else []
    with pool(jobs) as each:
        stage.do([*teachers, *others], each)
        if all(finished(run, place.root) for run in teachers):
            stage.do(waiting, each)
        else:
            stage.left.append(f"all that {half_trained.folder} is needed for")
    if stage.failed:
        raise DataError("; ".join(stage.left))
    found = {name: scores for name, run in runs.items() if (scores := read_scores(run, place.root))}
    return {name: {part: scores[part] for part in KEPT} for name, scores in found.items()}, stage.left


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ablation", type=Path, required=True, help="the ablation's report, whose choice is taken")
    parser.add_argument("--pairs", default="", help="as in the ablation")
    parser.add_argument("--trunk", default="", help="as in the ablation")
    parser.add_argument("--runs", type=Path, required=True, help="the ablation's folder, with its teacher")
    parser.add_argument("--only", nargs="+", choices=TRIES, default=list(TRIES), metavar="TRY", help=", ".join(TRIES))
    parser.add_argument("--out", type=Path, required=True, help="file for the report")
    parser.add_argument("--stage-minutes", type=float, default=float("inf"), help="stop in good order after so long")
    parser.add_argument("--jobs", type=int, default=1, help="how many runs at once")
    parser.add_argument("--threads", type=int, default=1, help="of each")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    ablation = json.loads(arguments.ablation.read_text())
    size = SIZES[ablation["experiment"]["size"]["name"]]
    experiment = Experiment(size, arguments.pairs, arguments.trunk)
    if experiment.described() != ablation["experiment"]:
        sys.exit(f"{arguments.ablation}: was measured with other settings, pairs or trunk")
    if teacher_digest(arguments.runs) != ablation["teacher"]:
        sys.exit(
            f"{arguments.runs / TEACHER_RUN}: expected the teacher of {arguments.ablation}; train it with ablation.py"
        )
    chosen = chosen_of(ablation["choice"], size)
    about = {"teacher": ablation["teacher"], "chosen": json.loads(json.dumps(asdict(chosen)))}
    known = kept(arguments.out, about)
    wanted = {name: TRIES[name].run(name, size, chosen) for name in arguments.only if name not in known}
    device = choose_device(arguments.device).type
    end = time.time() + 60 * arguments.stage_minutes
    place = Place(experiment, arguments.runs, device, arguments.threads, end, progress=arguments.jobs == 1)
    try:
        found, left = carry_on(place, wanted, arguments.jobs)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
    report = {"machine": machine(), **about, "tries": known | found, "left": left}
    write_text(arguments.out, json.dumps(report, indent=2) + "\n")
    ending = ["left:", *left] if left else ["nothing is left"]
    print("\n".join([*table(report), "", *confidence_table(report), "", *ending]))


if __name__ == "__main__":
    main()
