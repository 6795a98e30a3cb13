"""What is chosen on the validation sequences, first how fast the trunk learns, then alpha and beta.

All rows take the same. The learning rate is the one that is best for a student alone and for CMD together, so that
neither is chosen at the other's cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parts.ablation.report import FIGURES, SHOWN
from parts.ablation.rows import CHOOSER, STUDENT
from parts.ablation.runs import Run, choice_run, read_scores
from parts.ablation.sizes import Chosen, Size

from mmdistill.reference.training.stages import DistillationSettings


def factor_tries(size: Size) -> list[Run]:
    """Return the students that try out learning rates, alone and with CMD; none where there is nothing to choose."""
    if len(size.factors) == 1:
        return []
    return [run for factor in size.factors for row in (STUDENT, CHOOSER) for run in _of_a_rate(size, row, factor)]


def choose_factor(size: Size, root: Path) -> tuple[float, list[dict[str, Any]]]:
    """Return the factor that was best by the mean of PR and SR of both rows, the first of equal ones, and all tried."""
    if len(size.factors) == 1:
        return size.factors[0], []
    tried: list[dict[str, Any]] = []
    for factor in size.factors:
        rows = {row: _scores(_of_a_rate(size, row, factor), root) for row in (STUDENT, CHOOSER)}
        tried.append({"factor": factor, "learning rate": factor * size.student.learning_rates.trunk, **rows})
    best = max(tried, key=lambda each: sum(_merit(each[row]) for row in (STUDENT, CHOOSER)))
    return best["factor"], tried


def weight_tries(size: Size, factor: float) -> list[Run]:
    """Return the students that try out alpha and beta."""
    return [run for chosen in _grid(size, factor) for run in _of(size, CHOOSER, chosen)]


def choose(size: Size, factor: float, root: Path) -> dict[str, Any]:
    """Return alpha and beta that were best by the mean of PR and SR, the first of equal ones, and all tried."""
    tried = [
        {"alpha": chosen.alpha, "beta": chosen.beta, **_scores(_of(size, CHOOSER, chosen), root)}
        for chosen in _grid(size, factor)
    ]
    best = max(tried, key=_merit)
    return {"factor": factor, "alpha": best["alpha"], "beta": best["beta"], "tried": tried}


def _grid(size: Size, factor: float) -> list[Chosen]:
    return [Chosen(factor, alpha, beta) for alpha in size.alphas for beta in size.betas]


def _of_a_rate(size: Size, row: str, factor: float) -> list[Run]:
    own = DistillationSettings()
    return _of(size, row, Chosen(factor, own.alpha, own.beta))


def _of(size: Size, row: str, chosen: Chosen) -> list[Run]:
    return [choice_run(size, row, seed, chosen) for seed in size.choice_seeds]


def _merit(scores: Mapping[str, float]) -> float:
    return sum(scores[figure] for figure in SHOWN)


def _scores(runs: Sequence[Run], root: Path) -> dict[str, float]:
    found = [scores for run in runs if (scores := read_scores(run, root))]
    return {figure: round(sum(each[figure] for each in found) / len(runs), 2) for figure in FIGURES}
