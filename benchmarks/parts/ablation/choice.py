"""Choice of the losses' weights on the validation sequences: alpha and beta of CMD, and each baseline's own weight.

CMD and every baseline have the same number of candidates, seeds and training steps. The candidate with the highest sum
of PR and SR, mean over the seeds, is taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from parts.ablation.report import FIGURES, METRICS
from parts.ablation.rows import ROWS, Weights
from parts.ablation.runs import Run, choice_run, read_scores
from parts.ablation.sizes import Size

from mmdistill.toolkit.io import write_text

CHOICE = "choice.json"

Choices = Mapping[str, Mapping[str, Any]]
"""A choice by the row that it was made on: the weights, the trials, and the sequences."""


def choices_of(rows: Iterable[str]) -> list[str]:
    """Return the rows on which the weights of these rows are chosen, each once."""
    return list(dict.fromkeys(ROWS[name].chosen_on for name in rows if ROWS[name].chosen_on))


def candidates(size: Size, name: str) -> list[Weights]:
    """Return the candidates for a row's weights."""
    baseline = ROWS[name].baseline
    if baseline is None:
        return [Weights(alpha=alpha, beta=beta) for alpha, beta in product(size.alphas, size.betas)]
    return [Weights(baseline=weight) for weight in getattr(size.baselines, baseline)]


def trial_runs(size: Size, name: str) -> list[Run]:
    """Return the runs of a row's trials."""
    return [choice_run(size, name, seed, trial) for trial in candidates(size, name) for seed in size.choice_seeds]


def choose(size: Size, name: str, root: Path) -> dict[str, Any]:
    """Return the weights with the highest mean sum of PR and SR, the first among equals, and all trials."""
    trials = [_trial(size, name, weights, root) for weights in candidates(size, name)]
    best = max(trials, key=lambda trial: sum(trial[figure] for figure in METRICS))
    return {"chosen on": "validation sequences", "weights": best["weights"], "trials": trials}


def _trial(size: Size, name: str, weights: Weights, root: Path) -> dict[str, Any]:
    by_seed: dict[str, dict[str, float]] = {}
    for seed in size.choice_seeds:
        scores = read_scores(choice_run(size, name, seed, weights), root)
        assert scores is not None, "every trial is finished"
        by_seed[str(seed)] = {figure: scores[figure] for figure in FIGURES}
    means = {figure: round(sum(scores[figure] for scores in by_seed.values()) / len(by_seed), 2) for figure in FIGURES}
    return {"weights": asdict(weights), **means, "by seed": by_seed}


def given(weights: Weights) -> dict[str, Any]:
    """Return the choice of weights that were given."""
    return {"chosen on": "nothing: given", "weights": asdict(weights), "trials": []}


def read_weights(choices: Choices, name: str) -> Weights | None:
    """Return a row's chosen weights; None before they are chosen. A student alone needs no choice."""
    chosen_on = ROWS[name].chosen_on
    if not chosen_on:
        return Weights()
    return Weights(**choices[chosen_on]["weights"]) if chosen_on in choices else None


def read_choices(root: Path) -> dict[str, Any]:
    """Return the choices that were made in a folder of runs."""
    file = root / CHOICE
    choices: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return choices


def write_choice(root: Path, name: str, choice: Mapping[str, Any]) -> None:
    """Add a choice to those of a folder of runs."""
    write_text(root / CHOICE, json.dumps(read_choices(root) | {name: choice}, indent=2) + "\n")
