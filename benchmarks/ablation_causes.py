"""Why CMD closes no more of the gap, and why a part does not help: what was suspected, tried on the validation video.

    python benchmarks/ablation_causes.py --pairs PAIRS --trunk resnet18.npz --runs runs/ablation \
        --ablation benchmarks/results/ablation.json --out benchmarks/results/ablation_causes.json

Each try is a student that differs in one thing from what the ablation chose, taught by the ablation's teacher, which
``--runs`` holds. One seed, that of the choice: a hint, where the tables are the evidence. What ``--out`` has already of
the same experiment is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from parts.ablation.choice import chosen_of
from parts.ablation.crew import crew
from parts.ablation.earlier import teacher_digest
from parts.ablation.report import FIGURES, taken
from parts.ablation.rows import CHOOSER, STUDENT, TEACHER
from parts.ablation.runs import TAUGHT, Experiment, Place, Run, choice_run, read_scores
from parts.ablation.sizes import SIZES, Chosen, Size, lasting
from parts.ablation.stage import Stage
from parts.machine import machine

from mmdistill.reference.device import choose_device
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import write_text


@dataclass(frozen=True)
class Try:
    """A student that differs from what was chosen; all numbers are factors on that.

    Attributes:
        title: what the table calls it.
        row: of the ablation.
        steps: how long it is trained.
        fusion: on the fusion's learning rate.
        beta: on HFRD's weight.
        clipped: whether the gradient's norm is limited.
    """

    title: str
    row: str
    steps: int = 1
    fusion: float = 1.0
    beta: float = 1.0
    clipped: bool = True

    def run(self, name: str, size: Size, chosen: Chosen) -> Run:
        """Return it as a run of the ablation's folder."""
        factors = chosen.factors._replace(fusion=chosen.factors.fusion * self.fusion)
        [seed] = size.choice_seeds
        run = choice_run(size, self.row, seed, Chosen(factors, chosen.alpha, chosen.beta * self.beta))
        assert run.training is not None
        training = lasting(run.training, run.training.steps * self.steps)
        limit = training.gradient_limit if self.clipped else 0.0
        return replace(run, folder=f"causes/{name}", training=replace(training, gradient_limit=limit))


TRIES: Mapping[str, Try] = {
    "student_long": Try("Student, three times as long", STUDENT, steps=3),
    "cmd_long": Try("CMD, three times as long", CHOOSER, steps=3),
    "cmd_beta": Try("CMD, ten times the beta", CHOOSER, beta=10.0),
    "cmd_unclipped": Try("CMD, gradients of any norm", CHOOSER, clipped=False),
    "scfd": Try("+ SCFD", "scfd"),
    "scfd_mpsd": Try("+ SCFD + MPSD", "scfd_mpsd"),
    "scfd_loss": Try("+ SCFD + MPSD's loss, by concatenation", "scfd_loss"),
    "blocks": Try("Student with MPSD blocks, alone", "blocks"),
    "blocks_slow": Try("the same, whose fusion learns at a tenth of the rate", "blocks", fusion=0.1),
    "blocks_slower": Try("the same, at a hundredth of the rate", "blocks", fusion=0.01),
}
"""By name."""


def base(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the choice has measured of CMD and of a student alone with what it took."""
    [best] = [each for each in choice["tried"] if taken(each, choice)]
    return {row: best[row] for row in (STUDENT, CHOOSER) if row in best}


def table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of what was tried, as far as it is measured."""
    titles = {TEACHER: "Teacher", STUDENT: "Student", CHOOSER: "CMD"}
    titles |= {name: each.title for name, each in TRIES.items()}
    lines = ["| Tried on validation video, one seed | PR | NPR | SR |", "| --- | ---: | ---: | ---: |"]
    for name, title in titles.items():
        found = report["tries"].get(name)
        cells = ["not measured"] * 3 if found is None else [f"{found[figure]:.1f}" for figure in FIGURES]
        lines.append(f"| {title} | {' | '.join(cells)} |")
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
    with crew(jobs) as each:
        stage.do(list(runs.values()), each)
    found = {name: scores for name, run in runs.items() if (scores := read_scores(run, place.root))}
    if stage.failed:
        raise DataError("; ".join(stage.left))
    return {name: {figure: scores[figure] for figure in FIGURES} for name, scores in found.items()}, stage.left


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
        sys.exit(f"{arguments.runs / TAUGHT}: expected the teacher of {arguments.ablation}; train it with ablation.py")
    chosen = chosen_of(ablation["choice"], size)
    about = {"teacher": ablation["teacher"], "chosen": json.loads(json.dumps(asdict(chosen)))}
    known = kept(arguments.out, about) | base(ablation["choice"])
    wanted = {name: TRIES[name].run(name, size, chosen) for name in arguments.only if name not in known}
    if TEACHER not in known:
        [seed] = size.choice_seeds
        wanted = {TEACHER: Run(f"causes/{TEACHER}", None, None, None, "validation", seed)} | wanted
    device = choose_device(arguments.device).type
    end = time.time() + 60 * arguments.stage_minutes
    place = Place(experiment, arguments.runs, device, arguments.threads, end, progress=arguments.jobs == 1)
    try:
        found, left = carry_on(place, wanted, arguments.jobs)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
    report = {"machine": machine(), **about, "tries": known | found, "left": left}
    write_text(arguments.out, json.dumps(report, indent=2) + "\n")
    print("\n".join([*table(report), "", "nothing is left" if not left else "left:", *left]))


if __name__ == "__main__":
    main()
