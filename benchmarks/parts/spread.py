"""How figures over seeds and over sequences are summarized, rounded."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

BySequence = Mapping[str, Mapping[str, float]]
"""By sequence, each figure."""


def mean_and_deviation(values: Sequence[float]) -> list[float]:
    """Return both, to one digit; the deviation of a single value is 0."""
    return [round(statistics.mean(values), 1), round(statistics.stdev(values), 1) if len(values) > 1 else 0.0]


def standard_error(values: Sequence[float]) -> float:
    """Return that of the mean, to one digit; of a single value 0."""
    return round(statistics.stdev(values) / len(values) ** 0.5, 1) if len(values) > 1 else 0.0


STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""The 97.5 % quantile of Student's t for 1 to 9 degrees of freedom."""


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % t interval of the mean, to one digit.

    Args:
        values: 2 to 10 independent ones.
    """
    mean, quantile = statistics.mean(values), STUDENT_T[len(values) - 2]
    half = quantile * statistics.stdev(values) / len(values) ** 0.5
    return round(mean - half, 1), round(mean + half, 1)


def error_over_sequences(pairs: Sequence[tuple[BySequence, BySequence]], figure: str) -> float | None:
    """Return the standard error, over sequences, of how far one is ahead of another; None of no pair.

    Of each sequence the mean over seeds counts, so this is what chance in which sequences there are comes to.

    Args:
        pairs: of each seed, the one and the other.
        figure: which.
    """
    if not pairs:
        return None
    ahead = [{name: found[figure] - other[name][figure] for name, found in one.items()} for one, other in pairs]
    return standard_error([statistics.mean(each[name] for each in ahead) for name in ahead[0]])


def with_spread(figure: Sequence[float], sign: str = "", unit: str = "") -> str:
    """Return a mean and its deviation in words."""
    return f"{figure[0]:{sign}.1f} ± {figure[1]:.1f}{unit}"
