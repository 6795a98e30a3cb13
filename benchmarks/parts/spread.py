"""How figures over seeds are summarised: mean and standard deviation, rounded."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def mean_and_deviation(values: Sequence[float]) -> list[float]:
    """Return both, to one digit; the deviation of a single value is 0."""
    return [round(statistics.mean(values), 1), round(statistics.stdev(values), 1) if len(values) > 1 else 0.0]
