"""The ablation's tables, claims and intervals."""

import importlib
import json
from typing import Any

import numpy as np
import pytest
from ablation_toy import part


def figures(value: float) -> dict[str, float]:
    return {"PR": value, "NPR": value, "SR": value / 2}


def verdicts(by_seed: dict[str, dict[str, dict[str, float]]]) -> Any:
    return importlib.import_module("parts.seed_statistics").verdicts(
        part("rows").CLAIMS, by_seed, part("report").METRICS
    )


def test_gains_and_gaps_are_paired_by_seed() -> None:
    report = part("report")
    by_seed = {
        "0": {"teacher": figures(60), "student": figures(40), "scfd": figures(50), "cmd": figures(56)},
        "1": {"teacher": figures(70), "student": figures(60), "scfd": figures(68), "cmd": figures(70)},
    }
    by_seed["0"]["blocks"], by_seed["1"]["blocks"] = figures(36), figures(50)
    rows = report.summary(by_seed)
    assert rows["scfd"]["PR"] == [59.0, 12.7]
    assert rows["scfd"]["PR to student"] == [9.0, 1.4]
    assert rows["scfd"]["PR gap closed"] == [65.0, 21.2]  # 10 of 20, 8 of 10
    assert rows["cmd"]["base"] == "blocks"
    assert rows["cmd"]["PR to base"] == [20.0, 0.0]
    assert rows["cmd"]["PR to student"] == [13.0, 4.2]
    assert rows["cmd"]["SR gap closed"] == [91.7, 11.8]  # 20 of 24, 20 of 20
    claims = verdicts(by_seed)
    assert claims["SCFD helps"]["PR"] == {"ahead": [9.0, 1.4], "seeds": 2, "beyond the spread": "yes"}
    assert list(claims) == ["SCFD helps", "All three help: CMD", "CMD helps a student with MPSD blocks"]
    lines = report.table({"by seed": by_seed}, "1")
    assert lines[2] == "| Teacher | 65.0 ± 7.1 | 32.5 ± 3.5 |  |  |  |  |  | +15.0/+7.5 | 84.4/60.1 |"
    assert lines[3] == "| Student | 50.0 ± 14.1 | 25.0 ± 7.1 |  |  |  |  |  |  | 78.1/56.0 |"
    assert lines[4].startswith("| Student with MPSD blocks | 43.0 ± 9.9 | 21.5 ± 4.9 |  |")
    assert lines[5].endswith(
        "| Student | +9.0 ± 1.4 | +4.5 ± 0.7 | 65.0 ± 21.2 % | 65.0 ± 21.2 % | +9.0/+4.5 | 80.3/57.4 |"
    )
    assert lines[6] == "| + SCFD + MPSD | not measured | not measured |  |  |  |  |  |  | 82.2/58.3 |"
    assert "| Student with MPSD blocks | +20.0 ± 0.0 | +10.0 ± 0.0 |" in lines[7]
    lines = importlib.import_module("parts.seed_statistics").claims_table(claims, report.METRICS)
    assert lines[2] == "| SCFD helps | +9.0 ± 1.4: yes | +4.5 ± 0.7: yes |"
    by_seed["1"]["teacher"] = figures(60.5)  # SR 0.25 ahead: no gap
    rows = report.summary(by_seed)
    assert rows["scfd"]["SR gap closed"] is None
    assert report.table({"by seed": by_seed}, "1")[5].count("no gap") == 2
    del by_seed["1"]["student"]
    assert report.summary(by_seed)["cmd"]["PR to student"] is None
    del by_seed["0"]["blocks"]
    by_seed["1"]["student"] = figures(60)
    assert report.summary(by_seed)["cmd"]["base"] == "student"  # as the table says
    assert "| Student with MPSD blocks | 50.0 ± 0.0 |" in report.table({"by seed": by_seed}, "1")[4]


@pytest.mark.parametrize(
    ("ahead", "says"), [((1.0, 2.0), "yes"), ((-1.0, -2.0), "the reverse"), ((-1.0, 2.0), "within the spread")]
)
def test_a_claim_must_exceed_the_spread(ahead: tuple[float, float], says: str) -> None:
    by_seed = {str(seed): {"scfd": figures(50 + value), "sed": figures(50)} for seed, value in enumerate(ahead)}
    found = verdicts(by_seed)["SCFD beats SED"]
    assert found["PR"]["beyond the spread"] == says


@pytest.mark.parametrize(("sequences", "says"), [((1.0, 1.2, 1.1), "yes"), ((9.0, -7.0, 1.3), "within the spread")])
def test_a_claim_must_exceed_the_error_over_sequences(sequences: tuple[float, ...], says: str) -> None:
    def row(ahead: float, scale: float) -> dict[str, Any]:
        each = {f"s{i}": figures(50 + scale * value) for i, value in enumerate(sequences)}
        return figures(50 + ahead) | {"sequences": each}

    by_seed = {str(seed): {"scfd": row(1.1, 1), "sed": row(0, 0)} for seed in range(3)}
    found = verdicts(by_seed)["SCFD beats SED"]["PR"]
    error = np.std(sequences, ddof=1) / 3**0.5
    assert found["error over sequences"] == pytest.approx(error, abs=0.051)
    assert (found["ahead"], found["beyond the spread"]) == ([1.1, 0.0], says)
    [_, _, line] = importlib.import_module("parts.seed_statistics").claims_table(
        {"SCFD beats SED": {"PR": found}}, ["PR"]
    )
    assert line == f"| SCFD beats SED | +1.1 ± 0.0 ± {found['error over sequences']:.1f}: {says} |"
    del by_seed["1"]["sed"]["sequences"]  # taken over from a report, which keeps none
    assert "error over sequences" not in verdicts(by_seed)["SCFD beats SED"]["PR"]


def test_an_interval_includes_or_excludes_zero() -> None:
    gains = (1.0, 2.0, 3.0)  # the mean's standard error is 1 / 3**0.5
    by_seed = {str(seed): {"scfd": figures(50 + 2 * gain), "sed": figures(50)} for seed, gain in enumerate(gains)}
    low, high = (round(2 + sign * 4.303 / 3**0.5, 1) for sign in (-1, 1))
    assert importlib.import_module("parts.seed_statistics").t_interval(gains) == (low, high)
    [_, _, line] = part("report").intervals_table(by_seed, [("scfd", "sed")])
    assert line == f"| SCFD minus SED | +4.0, -1.0 to +9.0: includes 0 | +2.0, {low:+.1f} to {high:+.1f}: includes 0 |"
    by_seed["0"]["scfd"] = figures(55)
    [_, _, line] = part("report").intervals_table(by_seed, [("sed", "scfd")])
    assert line.count(": excludes 0") == 2


def test_figures_of_sequences_are_kept_in_the_report() -> None:
    report = part("report")
    by_sequence = {name: {"PR": value, "NPR": 1.0, "SR": value / 3} for name, value in (("a", 10.0), ("b", 20.126))}
    scores = {"run": {}, "PR": 15.06, "sequences": by_sequence, "loss": {"box": [1e-05, -2.0]}}
    kept = {
        "sequences": ["a", "b"],
        "by seed": {"0": {"cmd": report.reported_scores(scores, ["a", "b"])}},
        "empty": [[], [1]],
    }
    assert "run" not in kept["by seed"]["0"]["cmd"]
    text = report.compact_json(kept)
    assert json.loads(text) == kept
    assert '"PR": [10.0, 20.13],\n' in text
    assert '"box": [1e-05, -2.0]\n' in text
    read = report.read_sequences(kept, kept["by seed"]["0"]["cmd"])
    assert read == {"a": {"PR": 10.0, "NPR": 1.0, "SR": 3.33}, "b": {"PR": 20.13, "NPR": 1.0, "SR": 6.71}}
