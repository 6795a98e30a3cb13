"""Intervals over seeds and sequences: against slow formulas, and their coverage and power on simulated data."""

import importlib
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SEEDS, SEQUENCES = 5, 64

DESIGNS = {
    "seeds": (3.0, 0.0, 0.5),
    "sequences": (0.0, 20.0, 15.0),
    "both": (2.0, 10.0, 10.0),
    "neither": (0.0, 0.0, 10.0),
    "strong seeds": (4.0, 5.0, 15.0),
}
"""Standard deviation of a seed's effect, of a sequence's effect, and within both."""


@pytest.fixture(autouse=True)
def crossed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
    return importlib.import_module("parts.crossed_statistics")


def simulate(design: str, count: int = 200, effect: float = 0.0) -> Iterator[Any]:
    generator = np.random.default_rng(sum(map(ord, design)))
    seed, sequence, within = DESIGNS[design]
    for _ in range(count):
        yield (
            effect
            + generator.normal(0, seed, (SEEDS, 1))
            + generator.normal(0, sequence, (1, SEQUENCES))
            + generator.normal(0, within, (SEEDS, SEQUENCES))
        )


def covered(design: str, interval: Any) -> float:
    ends = [interval(each) for each in simulate(design)]
    return sum(low <= 0 <= high for low, high in ends) / len(ends)


@pytest.mark.parametrize("design", DESIGNS)
def test_the_interval_covers_the_true_difference(crossed: ModuleType, design: str) -> None:
    def interval(differences: Any) -> tuple[float, float]:
        found = crossed.crossed_interval(differences)
        return found.low, found.high

    assert 0.91 <= covered(design, interval) <= (1.0 if design == "neither" else 0.99)


def test_the_percentile_bootstrap_is_too_narrow_for_few_seeds(crossed: ModuleType) -> None:
    assert covered("seeds", lambda each: crossed.bootstrap_interval(each, draws=1000)) < 0.88
    assert covered("sequences", lambda each: crossed.bootstrap_interval(each, draws=1000)) > 0.92


@pytest.mark.parametrize("design", ["seeds", "sequences", "both"])
def test_the_detectable_effect_is_detected_in_four_of_five_cases(crossed: ModuleType, design: str) -> None:
    effect = statistics.mean(crossed.crossed_interval(each).detectable for each in simulate(design))
    found = [crossed.crossed_interval(each).verdict() for each in simulate(design, effect=effect)]
    assert 0.7 < found.count("helps") / len(found) < 0.9
    assert found.count("hurts") == 0


def test_the_bootstrap_is_that_of_a_slow_loop(crossed: ModuleType) -> None:
    differences = next(simulate("both"))[:3, :7]
    draws = 300
    generator = np.random.default_rng(5)
    counts = [generator.multinomial(size, [1 / size] * size, draws) for size in differences.shape]
    means = []
    for seeds, sequences in zip(*counts, strict=True):
        drawn = [seed for seed, times in enumerate(seeds) for _ in range(times)]
        videos = [video for video, times in enumerate(sequences) for _ in range(times)]
        means.append(statistics.mean(float(differences[seed, video]) for seed in drawn for video in videos))
    means.sort()

    def percentile(share: float) -> float:
        position = share * (draws - 1)
        below = math.floor(position)
        return means[below] + (position - below) * (means[below + 1] - means[below])

    found = crossed.bootstrap_interval(differences, draws=draws, seed=5)
    assert found == pytest.approx((percentile(0.025), percentile(0.975)), abs=1e-9)


def quantile(degrees: float, probability: float) -> float:
    """Student's t: where the integral of its density reaches the probability."""
    ends = np.linspace(0, 20, 400_001)
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    density = scale * (1 + ends**2 / degrees) ** (-(degrees + 1) / 2)
    below = 0.5 + np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(ends))
    return float(np.interp(probability, below, ends[1:]))


def test_the_interval_is_that_of_plain_formulas(crossed: ModuleType) -> None:
    differences = next(simulate("both"))[:4, :9]
    by_seed = [statistics.mean(map(float, row)) for row in differences]
    by_sequence = [statistics.mean(map(float, column)) for column in differences.T]
    errors = statistics.variance(by_seed) / 4, statistics.variance(by_sequence) / 9
    degrees = sum(errors) ** 2 / (errors[0] ** 2 / 3 + errors[1] ** 2 / 8)
    found = crossed.crossed_interval(differences)
    assert (found.seeds, found.sequences) == (4, 9)
    assert found.mean == pytest.approx(statistics.mean(by_seed))
    error = math.sqrt(sum(errors))
    assert found.high - found.mean == pytest.approx(quantile(degrees, 0.975) * error)
    assert found.detectable == pytest.approx((quantile(degrees, 0.975) + quantile(degrees, 0.8)) * error)
    # Seeds alone: Student's t. No spread at all: no width.
    alone = crossed.crossed_interval(np.array([[1.0], [2.0], [3.0]]))
    assert (alone.low, alone.high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3)
    assert crossed.crossed_interval(np.ones((3, 4))).low == 1.0


def row(values: Any) -> dict[str, Any]:
    return {"PR": float(np.mean(values)), "sequences": {"PR": list(values)}}


def test_claims_with_and_without_sequences(crossed: ModuleType) -> None:
    by_seed = {
        str(seed): {"one": row([50.0 + seed, 60.0, 70.0]), "two": row([50.0, 59.0, 69.0 - seed])} for seed in range(3)
    }
    claims = [("One helps", "one", "two"), ("One beats two", "one", "two"), ("None", "one", "three")]
    paired = crossed.paired_differences(by_seed, "one", "two", "PR")
    assert paired.tolist() == [[0, 1, 1], [1, 1, 2], [2, 1, 3]]
    results = crossed.claim_results(claims, by_seed, ["PR"])
    assert list(results) == ["One helps", "One beats two"]
    assert results["One helps"]["PR"]["verdict"] == "no difference detected"
    assert results["One helps"]["PR"]["bootstrap"][0] > 0
    lines = crossed.claims_table(claims, {"": {"by seed": by_seed}}, ["PR"])
    assert lines[0] == "| The paper's claim | PR | Seeds, sequences |"
    found = crossed.compare(by_seed, "one", "two", "PR")
    text = f"+1.3 ({found.low:+.1f} to {found.high:+.1f}): no difference detected, detectable {found.detectable:.1f}"
    assert lines[2] == f"| One helps | {text} | 3, 3 |"
    del by_seed["2"]["two"]["sequences"]  # of an earlier report
    by_seed["1"]["one"]["PR"] += 1
    lines = crossed.claims_table(claims, {"A": {"by seed": by_seed}, "B": {"by seed": {}}}, ["PR"])
    assert lines[0] == "| The paper's claim | A: PR | A: Seeds, sequences | B: PR | B: Seeds, sequences |"
    assert lines[2].endswith("| 3, seeds only |  |  |")
    by_seed = {str(seed): {"one": row([9.0 + seed / 10] * 3), "two": row([5.0] * 3)} for seed in range(5)}
    assert "+4.2 (+4.0 to +4.4): helps | 5, 3 |" in crossed.claims_table(claims, {"": {"by seed": by_seed}}, ["PR"])[2]
    reverse = [("Two beats one", "two", "one")]
    assert "(-4.4 to -4.0): behind" in crossed.claims_table(reverse, {"": {"by seed": by_seed}}, ["PR"])[2]
