"""Statistics over seeds and sequences: means, intervals, and differences between rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import t as student_t

BySequence = Mapping[str, Mapping[str, float]]
"""Sequence name to figures."""

BySeed = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Seed to row to figures; with figures by sequence under ``"sequences"`` where they were recorded."""

Claim = tuple[str, str, str]
"""The claim's text, the row that it says is better, and the row to compare with."""


def mean_and_deviation(values: Sequence[float]) -> list[float]:
    """Return mean and standard deviation, to one decimal; the deviation of a single value is 0."""
    return [round(statistics.mean(values), 1), round(statistics.stdev(values), 1) if len(values) > 1 else 0.0]


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean, to one decimal; 0 for a single value."""
    return round(statistics.stdev(values) / len(values) ** 0.5, 1) if len(values) > 1 else 0.0


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % t interval of the mean of two or more independent values, to one decimal."""
    mean, quantile = statistics.mean(values), float(student_t.ppf(0.975, len(values) - 1))
    margin = quantile * statistics.stdev(values) / len(values) ** 0.5
    return round(mean - margin, 1), round(mean + margin, 1)


def format_mean(figure: Sequence[float], sign: str = "", unit: str = "") -> str:
    """Return mean and standard deviation as text."""
    return f"{figure[0]:{sign}.1f} ± {figure[1]:.1f}{unit}"


def format_bounds(mean: float, low: float, high: float) -> str:
    """Return a mean, its interval, and whether it excludes 0, as text."""
    result = "excludes 0" if low > 0 or high < 0 else "includes 0"
    return f"{mean:+.1f}, {low:+.1f} to {high:+.1f}: {result}"


def differences(by_seed: BySeed, name: str, base: str, figure: str) -> list[float]:
    """Return a row's figure minus the base's, for each seed that has both."""
    return [rows[name][figure] - rows[base][figure] for rows in by_seed.values() if name in rows and base in rows]


def paired_sequences(by_seed: BySeed, name: str, base: str) -> list[tuple[BySequence, BySequence]]:
    """Return both rows' figures by sequence for each seed; empty if a row has none."""
    pairs = [(rows[name], rows[base]) for rows in by_seed.values() if name in rows and base in rows]
    if not all("sequences" in row for pair in pairs for row in pair):
        return []
    return [(row["sequences"], other["sequences"]) for row, other in pairs]


def sequence_standard_error(pairs: Sequence[tuple[BySequence, BySequence]], figure: str) -> float | None:
    """Return the standard error over sequences of the difference of two rows; None without pairs.

    A sequence counts by its mean over seeds. This is the uncertainty from the choice of test sequences.

    Args:
        pairs: for each seed, the figures by sequence of both rows.
        figure: the figure's name.
    """
    if not pairs:
        return None
    ahead = [{name: rates[figure] - base[name][figure] for name, rates in row.items()} for row, base in pairs]
    return standard_error([statistics.mean(each[name] for each in ahead) for name in ahead[0]])


def verdicts(claims: Sequence[Claim], by_seed: BySeed, figures: Sequence[str]) -> dict[str, Any]:
    """Return for each claim and figure the mean difference, and whether it is beyond the spread.

    A difference is beyond the spread if it exceeds its standard deviation over two or more seeds and, where known, its
    standard error over sequences. With few seeds this is weaker evidence than a 95 % interval that excludes 0.
    """
    results: dict[str, Any] = {}
    for claim, name, base in claims:
        results[claim] = {}
        for figure in figures:
            ahead = differences(by_seed, name, base, figure)
            if len(ahead) < 2:
                continue
            mean, deviation = mean_and_deviation(ahead)
            error = sequence_standard_error(paired_sequences(by_seed, name, base), figure)
            spread = max(deviation, error or 0.0)
            holds = "yes" if mean > spread else "the reverse" if -mean > spread else "within the spread"
            verdict = {"ahead": [mean, deviation], "seeds": len(ahead), "beyond the spread": holds}
            results[claim][figure] = verdict if error is None else verdict | {"error over sequences": error}
    return {claim: result for claim, result in results.items() if result}


def claims_table(results: Mapping[str, Any], figures: Sequence[str]) -> list[str]:
    """Return the lines of a Markdown table of verdicts.

    A cell is the mean, its standard deviation over seeds, its standard error over sequences if known, and the verdict.
    """
    lines = [f"| The paper's claim | {' | '.join(figures)} |", "| --- |" + " --- |" * len(figures)]
    for claim, verdict in results.items():
        cells = [_cell(verdict[figure]) if figure in verdict else "" for figure in figures]
        lines.append(f"| {' | '.join([claim, *cells])} |")
    return lines


def _cell(verdict: Mapping[str, Any]) -> str:
    error = verdict.get("error over sequences")
    over_sequences = "" if error is None else f" ± {error:.1f}"
    return f"{format_mean(verdict['ahead'], '+')}{over_sequences}: {verdict['beyond the spread']}"
