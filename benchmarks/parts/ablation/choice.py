"""Choice of learning rates, alpha and beta on the validation sequences; all rows share the result.

Every combination is tried with CMD, and every pair of learning rates also with a student alone. The best sum over both
is taken, so that the choice favors neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from itertools import product
from pathlib import Path
from typing import Any

from parts.ablation.report import FIGURES, METRICS
from parts.ablation.rows import CMD, STUDENT
from parts.ablation.runs import Run, choice_run, read_scores
from parts.ablation.sizes import Hyperparameters, RateFactors, Size

CHOICE = "choice.json"


def trial_runs(size: Size) -> list[Run]:
    """Return the runs of all trials; a student alone is tried only if there are several learning rates."""
    rates = size.factors if len(size.factors) > 1 else ()
    alone = [run for factors in rates for run in _runs(size, STUDENT, Hyperparameters(factors, 0.0, 0.0))]
    return alone + [run for trial in _grid(size) for run in _runs(size, CMD, trial)]


def choose(size: Size, root: Path) -> dict[str, Any]:
    """Return the trial with the highest sum of PR and SR over its rows, the first among equals, and all trials."""
    trials = []
    for trial in _grid(size):
        scores = {CMD: _mean_scores(_runs(size, CMD, trial), root)}
        if len(size.factors) > 1:
            scores[STUDENT] = _mean_scores(_runs(size, STUDENT, trial), root)
        rates = size.student_training(0, trial.factors).learning_rates
        trials.append(asdict(trial) | {"learning rates": {"trunk": rates.trunk, "fusion": rates.fusion}, **scores})
    best = max(trials, key=lambda trial: sum(_score(trial[row]) for row in (CMD, STUDENT) if row in trial))
    return {each.name: best[each.name] for each in fields(Hyperparameters)} | {"trials": trials}


def read_hyperparameters(choice: Mapping[str, Any] | None, size: Size) -> Hyperparameters:
    """Return the chosen hyperparameters; without a choice, the size's first learning rates and no distillation."""
    if choice is None:
        return Hyperparameters(size.factors[0], 0.0, 0.0)
    return Hyperparameters(RateFactors(*choice["factors"]), choice["alpha"], choice["beta"])


def _grid(size: Size) -> list[Hyperparameters]:
    return [Hyperparameters(*values) for values in product(size.factors, size.alphas, size.betas)]


def _runs(size: Size, row: str, trial: Hyperparameters) -> list[Run]:
    return [choice_run(size, row, seed, trial) for seed in size.choice_seeds]


def _score(scores: Mapping[str, float]) -> float:
    return sum(scores[figure] for figure in METRICS)


def _mean_scores(runs: Sequence[Run], root: Path) -> dict[str, float]:
    by_run = [scores for run in runs if (scores := read_scores(run, root))]
    return {figure: round(sum(scores[figure] for scores in by_run) / len(runs), 2) for figure in FIGURES}
