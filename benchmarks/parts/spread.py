"""How figures over seeds and over sequences are summarised, rounded."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def mean_and_deviation(values: Sequence[float]) -> list[float]:
    """Return both, to one digit; the deviation of a single value is 0."""
    return [round(statistics.mean(values), 1), round(statistics.stdev(values), 1) if len(values) > 1 else 0.0]


def standard_error(values: Sequence[float]) -> float:
    """Return that of the mean, to one digit; of a single value 0."""
    return round(statistics.stdev(values) / len(values) ** 0.5, 1) if len(values) > 1 else 0.0


def with_spread(figure: Sequence[float], sign: str = "", unit: str = "") -> str:
    """Return a mean and its deviation in words."""
    return f"{figure[0]:{sign}.1f} ± {figure[1]:.1f}{unit}"
