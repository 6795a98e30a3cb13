"""Tables of the comparison of MPSD blocks: figures over seeds, and differences with intervals."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from parts.seed_statistics import format_bounds, format_mean, mean_and_deviation, t_interval
from parts.selection.recording import LEVELS
from parts.selection.rows import GROUPS, VARIANTS

METRICS = ("PR", "SR")
LOW_ENTROPY = 0.1
"""Mean entropy below which nearly all samples select one path."""

BASE = "none"
"""The published block, with which the others are compared."""

BySeed = Mapping[str, Mapping[str, Any]]


def summary(runs: Mapping[str, Mapping[str, BySeed]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the figures over seeds by group and variant."""
    return {
        group: {variant: _row(by_seed, variants.get(BASE, {})) for variant, by_seed in variants.items() if by_seed}
        for group, variants in runs.items()
    }


def _row(by_seed: BySeed, base: BySeed) -> dict[str, Any]:
    row: dict[str, Any] = {"seeds": list(by_seed)}
    for level in LEVELS:
        selections = [run["held out"][level] for run in by_seed.values()]
        row[level] = {
            "collapsed": sum(each["collapsed"] is not None for each in selections),
            "low entropy": sum(each["entropy"] < LOW_ENTROPY for each in selections),
            "entropy": _spread([each["entropy"] for each in selections]),
            "entropy of mean": _spread([each["entropy_of_mean"] for each in selections]),
            "mean weights": _means([each["mean_weights"] for each in selections]),
            "preferred": _means([each["preferred"] for each in selections]),
            "path rms": _means([each["path rms"] for each in selections]),
        }
    shared = [seed for seed in by_seed if seed in base]
    for figure in METRICS:
        row[figure] = mean_and_deviation([run[figure] for run in by_seed.values()])
        ahead = [by_seed[seed][figure] - base[seed][figure] for seed in shared]
        row[f"{figure} to {BASE}"] = [mean_and_deviation(ahead)[0], *t_interval(ahead)] if len(ahead) > 1 else None
    return row


def _spread(values: Sequence[float]) -> list[float]:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return [round(statistics.mean(values), 3), round(deviation, 3)]


def _means(values: Sequence[Sequence[float]]) -> list[float]:
    return [round(statistics.mean(each), 3) for each in zip(*values, strict=True)]


def selection_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of path selection on held-out video."""
    lines = [
        "| Student | `normalize` | Level | Collapsed | Entropy < 0.1 | Entropy | Entropy of the mean | Mean weights |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for group, variant, row in _rows(report):
        for level in LEVELS:
            figures = row[level]
            entropies = (figures["entropy"], figures["entropy of mean"])
            spread = [f"{mean:.2f} ± {deviation:.2f}" for mean, deviation in entropies]
            of = len(row["seeds"])
            counts = [f"{figures[name]} of {of}" for name in ("collapsed", "low entropy")]
            cells = [group, variant, level[-1], *counts, *spread, _shares(figures["mean weights"])]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def rms_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of each path's rms in the published block, mean over seeds and samples."""
    lines = ["| Student | Level | Gated sum | Product | Difference |", "| --- | ---: | ---: | ---: | ---: |"]
    for group, variant, row in _rows(report):
        if variant == "`None`":
            lines += [f"| {group} | {level[-1]} | {_shares(row[level]['path rms'], ' | ')} |" for level in LEVELS]
    return lines


def _shares(values: Sequence[float], between: str = " / ") -> str:
    return between.join(f"{value:.2f}" for value in values)


def scores_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of PR and SR on validation video, and differences to the published block."""
    lines = [
        "| Student | `normalize` | Seeds | PR | SR | PR minus `None`'s, 95 % | SR minus `None`'s, 95 % |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
    ]
    for group, variant, row in _rows(report):
        cells = [group, variant, str(len(row["seeds"])), *(format_mean(row[figure]) for figure in METRICS)]
        for figure in METRICS:
            cells.append("" if variant == "`None`" else _ahead(row[f"{figure} to {BASE}"]))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _ahead(difference: Sequence[float] | None) -> str:
    if difference is None:
        return "fewer than two seeds"
    return format_bounds(*difference)


def _rows(report: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    names = {BASE: "`None`"}
    return [
        (group.title, names.get(variant, f'`"{variant}"`'), report["rows"][group.title][variant])
        for group in GROUPS
        for variant in VARIANTS
        if variant in report["rows"].get(group.title, {})
    ]
