"""What is chosen on the validation sequences: how fast trunk and fusion learn, alpha and beta.

All rows take the same. Every combination is tried with CMD, and learning rates with a student alone too: what is best
for both together is taken, so that neither is chosen at the other's cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from itertools import product
from pathlib import Path
from typing import Any

from parts.ablation.report import FIGURES, METRICS
from parts.ablation.rows import CHOOSER, STUDENT
from parts.ablation.runs import Run, choice_run, read_scores
from parts.ablation.sizes import Chosen, Factors, Size

CHOICE = "choice.json"


def tries(size: Size) -> list[Run]:
    """Return the students that are trained for the choice; none alone where there is but one learning rate."""
    rates = size.factors if len(size.factors) > 1 else ()
    alone = [run for factors in rates for run in _of(size, STUDENT, Chosen(factors, 0.0, 0.0))]
    return alone + [run for chosen in _grid(size) for run in _of(size, CHOOSER, chosen)]


def choose(size: Size, root: Path) -> dict[str, Any]:
    """Return what was best by PR and SR of all rows that tried it, the first of equal ones, and all that was tried."""
    tried = []
    for chosen in _grid(size):
        found = {CHOOSER: _scores(_of(size, CHOOSER, chosen), root)}
        if len(size.factors) > 1:
            found[STUDENT] = _scores(_of(size, STUDENT, chosen), root)
        own = size.student_training(0, chosen.factors).learning_rates
        tried.append(asdict(chosen) | {"learning rates": {"trunk": own.trunk, "fusion": own.fusion}, **found})
    best = max(tried, key=lambda each: sum(_merit(each[row]) for row in (CHOOSER, STUDENT) if row in each))
    return {each.name: best[each.name] for each in fields(Chosen)} | {"tried": tried}


def chosen_of(choice: Mapping[str, Any] | None, size: Size) -> Chosen:
    """Return what was chosen; without a choice, what is right for students alone where there is one learning rate."""
    if choice is None:
        return Chosen(size.factors[0], 0.0, 0.0)
    return Chosen(Factors(*choice["factors"]), choice["alpha"], choice["beta"])


def _grid(size: Size) -> list[Chosen]:
    return [Chosen(*each) for each in product(size.factors, size.alphas, size.betas)]


def _of(size: Size, row: str, chosen: Chosen) -> list[Run]:
    return [choice_run(size, row, seed, chosen) for seed in size.choice_seeds]


def _merit(scores: Mapping[str, float]) -> float:
    return sum(scores[figure] for figure in METRICS)


def _scores(runs: Sequence[Run], root: Path) -> dict[str, float]:
    found = [scores for run in runs if (scores := read_scores(run, root))]
    return {figure: round(sum(each[figure] for each in found) / len(runs), 2) for figure in FIGURES}
