"""What the comparison of MPSD blocks came to: figures over seeds, differences with intervals, tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from parts.selection.rows import BLOCKS, VARIANTS
from parts.selection.watch import LEVELS
from parts.spread import interval, mean_and_deviation, with_spread

METRICS = ("PR", "SR")
LOW_ENTROPY = 0.1
"""Mean entropy below which a selection is counted as one path for nearly all samples."""

BASE = "none"
"""The variant that the others are compared with: the published block."""

BySeed = Mapping[str, Mapping[str, Any]]


def summary(runs: Mapping[str, Mapping[str, BySeed]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by block and variant the figures over seeds."""
    return {
        block: {variant: _row(by_seed, variants.get(BASE, {})) for variant, by_seed in variants.items() if by_seed}
        for block, variants in runs.items()
    }


def _row(by_seed: BySeed, base: BySeed) -> dict[str, Any]:
    row: dict[str, Any] = {"seeds": list(by_seed)}
    for level in LEVELS:
        found = [run["held out"][level] for run in by_seed.values()]
        row[level] = {
            "collapsed": sum(each["collapsed"] is not None for each in found),
            "low entropy": sum(each["entropy"] < LOW_ENTROPY for each in found),
            "entropy": _spread([each["entropy"] for each in found]),
            "entropy of mean": _spread([each["entropy_of_mean"] for each in found]),
            "mean weights": _means([each["mean_weights"] for each in found]),
            "preferred": _means([each["preferred"] for each in found]),
            "path rms": _means([each["path rms"] for each in found]),
        }
    shared = [seed for seed in by_seed if seed in base]
    for figure in METRICS:
        row[figure] = mean_and_deviation([run[figure] for run in by_seed.values()])
        ahead = [by_seed[seed][figure] - base[seed][figure] for seed in shared]
        row[f"{figure} to {BASE}"] = [mean_and_deviation(ahead)[0], *interval(ahead)] if len(ahead) > 1 else None
    return row


def _spread(values: Sequence[float]) -> list[float]:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return [round(statistics.mean(values), 3), round(deviation, 3)]


def _means(values: Sequence[Sequence[float]]) -> list[float]:
    return [round(statistics.mean(each), 3) for each in zip(*values, strict=True)]


def selection_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of how the blocks select on held-out video."""
    lines = [
        "| Student | `normalize` | Level | Collapsed | Entropy < 0.1 | Entropy | Entropy of the mean | Mean weights |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for block, variant, row in _rows(report):
        for level in LEVELS:
            found = row[level]
            entropies = (found["entropy"], found["entropy of mean"])
            spread = [f"{mean:.2f} ± {deviation:.2f}" for mean, deviation in entropies]
            of = len(row["seeds"])
            counts = [f"{found[name]} of {of}" for name in ("collapsed", "low entropy")]
            cells = [block, variant, level[-1], *counts, *spread, _shares(found["mean weights"])]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def rms_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of each path's rms in the published block, mean over seeds and samples."""
    lines = ["| Student | Level | Gated sum | Product | Difference |", "| --- | ---: | ---: | ---: | ---: |"]
    for block, variant, row in _rows(report):
        if variant == "`None`":
            lines += [f"| {block} | {level[-1]} | {_shares(row[level]['path rms'], ' | ')} |" for level in LEVELS]
    return lines


def _shares(values: Sequence[float], between: str = " / ") -> str:
    return between.join(f"{value:.2f}" for value in values)


def scores_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of PR and SR on the validation video, and how far each is ahead of the published."""
    lines = [
        "| Student | `normalize` | Seeds | PR | SR | PR minus `None`'s, 95 % | SR minus `None`'s, 95 % |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
    ]
    for block, variant, row in _rows(report):
        cells = [block, variant, str(len(row["seeds"])), *(with_spread(row[figure]) for figure in METRICS)]
        for figure in METRICS:
            cells.append("" if variant == "`None`" else _ahead(row[f"{figure} to {BASE}"]))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _ahead(difference: Sequence[float] | None) -> str:
    if difference is None:
        return "fewer than two seeds"
    mean, low, high = difference
    judged = "excludes 0" if low > 0 or high < 0 else "includes 0"
    return f"{mean:+.1f}, {low:+.1f} to {high:+.1f}: {judged}"


def _rows(report: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    names = {BASE: "`None`"}
    return [
        (block.title, names.get(variant, f'`"{variant}"`'), report["rows"][block.title][variant])
        for block in BLOCKS
        for variant in VARIANTS
        if variant in report["rows"].get(block.title, {})
    ]
