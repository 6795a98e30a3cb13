from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmdistill.reference.errors import DataError
from mmdistill.reference.evaluation.curve_file import read_curves, save_curves
from mmdistill.reference.evaluation.rules import RULES
from mmdistill.reference.evaluation.scores import BenchmarkScores, gather
from mmdistill.reference.evaluation.scoring import score_benchmark


def scores(rule: str) -> BenchmarkScores:
    generator = np.random.default_rng(0)
    truths, predicted = {}, {}
    for name, length in (("a'b`", 37), ("c", 111), ("d", 7)):
        truth = generator.uniform(20, 60, (length, 4))
        truths[name] = (truth, truth + 1) if RULES[rule].truth == "best" else (truth,)
        predicted[name] = truth + generator.normal(0, 9, truth.shape)
    attributes = {"a'b`": {"OCC": [True], "TC": [False]}, "c": {"OCC": [True]}, "d": {"TC": [True]}}
    return score_benchmark(predicted, truths, RULES[rule], attributes=attributes)


@pytest.mark.parametrize("rule", list(RULES))
def test_what_is_read_is_what_was_saved_to_the_last_bit(rule: str, tmp_path: Path) -> None:
    saved = scores(rule)
    save_curves(tmp_path / "curves.json", saved)
    read = read_curves(tmp_path / "curves.json")
    assert read.rule == saved.rule
    assert read.having == saved.having == {"OCC": ("a'b`", "c"), "TC": ("d",)}
    assert read.to_json() == saved.to_json()
    for name, each in saved.sequences.items():
        for curve in ("precision", "normalised", "success"):
            np.testing.assert_array_equal(getattr(read.sequences[name], curve), getattr(each, curve))
    assert read.overall.SR == saved.overall.SR


@pytest.mark.parametrize("rule", ["gtot", "lasher"])
def test_a_part_of_the_sequences_scores_as_if_there_were_no_others(rule: str) -> None:
    both = scores(rule)
    part = gather({name: both.sequences[name] for name in ("c", "d")}, both.having, both.rule)
    weights = [111, 7] if rule == "gtot" else [1, 1]
    assert (
        pytest.approx(np.average([both.sequences[name].PR for name in ("c", "d")], weights=weights)) == part.overall.PR
    )
    assert part.having == {"OCC": ("c",), "TC": ("d",)}
    assert part.attributes["OCC"].SR == both.sequences["c"].SR
    alone = gather({"c": both.sequences["c"]}, both.having, both.rule)
    assert set(alone.attributes) == {"OCC"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content.pop("rule"), "'rule'"),
        (lambda content: content.update(format="other"), "format 'other' instead of 'mmdistill-curves-1'"),
        (lambda content: content["sequences"]["c"]["success"].pop(), "expected 21 counts"),
        (lambda content: content["sequences"]["c"].update(frames=1), "counts of up to 1 frames"),
        (lambda content: content["sequences"].clear(), "no sequences"),
        (lambda content: content["rule"].update(colour="red"), "colour"),
    ],
)
def test_a_file_that_is_something_else(change: object, says: str, tmp_path: Path) -> None:
    path = tmp_path / "curves.json"
    save_curves(path, scores("vot"))
    content = json.loads(path.read_text())
    change(content)  # type: ignore[operator]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="expected curves as") as error:
        read_curves(path)
    assert str(error.value).startswith(f"{path}: ")
    assert says in str(error.value)
    path.write_text("[")
    with pytest.raises(DataError, match="expected curves as"):
        read_curves(path)
    with pytest.raises(DataError, match="cannot read the file"):
        read_curves(tmp_path / "none.json")
