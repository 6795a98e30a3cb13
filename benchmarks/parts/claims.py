"""What a paper says of two rows, held against what was measured of both, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parts.spread import BySequence, error_over_sequences, mean_and_deviation, with_spread

BySeed = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By seed and row, each figure; and, where it is kept, by sequence under "sequences"."""

Claim = tuple[str, str, str]
"""In words, and which row is better than which."""


def differences(by_seed: BySeed, name: str, base: str, figure: str) -> list[float]:
    """Return how far a row is ahead of another, seed by seed, where both are there."""
    return [found[name][figure] - found[base][figure] for found in by_seed.values() if name in found and base in found]


def kept_sequences(by_seed: BySeed, name: str, base: str) -> list[tuple[BySequence, BySequence]]:
    """Return of each seed both rows' figures by sequence; none at all where one of them doesn't keep them."""
    pairs = [(found[name], found[base]) for found in by_seed.values() if name in found and base in found]
    if not all("sequences" in row for pair in pairs for row in pair):
        return []
    return [(row["sequences"], other["sequences"]) for row, other in pairs]


def verdicts(claims: Sequence[Claim], by_seed: BySeed, figures: Sequence[str]) -> dict[str, Any]:
    """Return for each claim and figure by how much the one row is ahead of the other, and if beyond the spread.

    Beyond the spread: the mean over seeds of the difference is more than its standard deviation, with two seeds or
    more, and more than its standard error over sequences, where they are kept.
    """
    found: dict[str, Any] = {}
    for claim, name, base in claims:
        found[claim] = {}
        for figure in figures:
            ahead = differences(by_seed, name, base, figure)
            if len(ahead) < 2:
                continue
            mean, deviation = mean_and_deviation(ahead)
            error = error_over_sequences(kept_sequences(by_seed, name, base), figure)
            spread = max(deviation, error or 0.0)
            holds = "yes" if mean > spread else "the reverse" if -mean > spread else "within the spread"
            each = {"ahead": [mean, deviation], "seeds": len(ahead), "beyond the spread": holds}
            found[claim][figure] = each if error is None else each | {"error over sequences": error}
    return {claim: each for claim, each in found.items() if each}


def claims_table(found: Mapping[str, Any], figures: Sequence[str]) -> list[str]:
    """Return the lines of a table of verdicts in Markdown, as far as there are any.

    Behind a mean stands its deviation over seeds and then, where it is known, its error over sequences.
    """
    lines = [f"| The paper's claim | {' | '.join(figures)} |", "| --- |" + " --- |" * len(figures)]
    for claim, each in found.items():
        cells = [_cell(each[figure]) if figure in each else "" for figure in figures]
        lines.append(f"| {' | '.join([claim, *cells])} |")
    return lines


def _cell(verdict: Mapping[str, Any]) -> str:
    error = verdict.get("error over sequences")
    over_sequences = "" if error is None else f" ± {error:.1f}"
    return f"{with_spread(verdict['ahead'], '+')}{over_sequences}: {verdict['beyond the spread']}"
