"""What a paper says of two rows, held against what was measured of both, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parts.spread import mean_and_deviation, with_spread

BySeed = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By seed and row, each figure."""

Claim = tuple[str, str, str]
"""In words, and which row is better than which."""


def differences(by_seed: BySeed, name: str, base: str, figure: str) -> list[float]:
    """Return how far a row is ahead of another, seed by seed, where both are there."""
    return [found[name][figure] - found[base][figure] for found in by_seed.values() if name in found and base in found]


def verdicts(claims: Sequence[Claim], by_seed: BySeed, figures: Sequence[str]) -> dict[str, Any]:
    """Return for each claim and figure by how much the one row is ahead of the other, and if beyond the spread.

    Beyond the spread: the mean over seeds of the difference is more than its standard deviation, with two seeds or
    more.
    """
    found: dict[str, Any] = {}
    for claim, name, base in claims:
        found[claim] = {}
        for figure in figures:
            ahead = differences(by_seed, name, base, figure)
            if len(ahead) < 2:
                continue
            mean, deviation = mean_and_deviation(ahead)
            holds = "yes" if mean > deviation else "the reverse" if -mean > deviation else "within the spread"
            found[claim][figure] = {"ahead": [mean, deviation], "seeds": len(ahead), "beyond the spread": holds}
    return {claim: each for claim, each in found.items() if each}


def claims_table(found: Mapping[str, Any], figures: Sequence[str]) -> list[str]:
    """Return the lines of a table of verdicts in Markdown, as far as there are any."""
    lines = [f"| The paper's claim | {' | '.join(figures)} |", "| --- |" + " --- |" * len(figures)]
    for claim, each in found.items():
        cells = [
            f"{with_spread(each[figure]['ahead'], '+')}: {each[figure]['beyond the spread']}" if figure in each else ""
            for figure in figures
        ]
        lines.append(f"| {' | '.join([claim, *cells])} |")
    return lines
