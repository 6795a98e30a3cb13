from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.metrics import score_benchmark
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.scores import BenchmarkScores, aggregate, read_curves, save_curves


def scores(protocol: str) -> BenchmarkScores:
    generator = np.random.default_rng(0)
    truths, predicted = {}, {}
    for name, length in (("a'b`", 37), ("c", 111), ("d", 7)):
        truth = generator.uniform(20, 60, (length, 4))
        truths[name] = (truth, truth + 1) if PROTOCOLS[protocol].truth == "best" else (truth,)
        predicted[name] = truth + generator.normal(0, 9, truth.shape)
    attributes = {"a'b`": {"OCC": [True], "TC": [False]}, "c": {"OCC": [True]}, "d": {"TC": [True]}}
    return score_benchmark(predicted, truths, PROTOCOLS[protocol], attributes=attributes)


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_what_is_read_is_what_was_saved_to_the_last_bit(protocol: str, tmp_path: Path) -> None:
    saved = scores(protocol)
    save_curves(tmp_path / "curves.json", saved)
    read = read_curves(tmp_path / "curves.json")
    assert read.protocol == saved.protocol
    assert read.attribute_sequences == saved.attribute_sequences == {"OCC": ("a'b`", "c"), "TC": ("d",)}
    assert read.to_json() == saved.to_json()
    for name, each in saved.sequences.items():
        for curve in ("precision", "normalized", "success"):
            np.testing.assert_array_equal(getattr(read.sequences[name], curve), getattr(each, curve))
    assert read.overall.SR == saved.overall.SR


@pytest.mark.parametrize("protocol", ["gtot", "lasher"])
def test_a_part_of_the_sequences_scores_as_if_there_were_no_others(protocol: str) -> None:
    both = scores(protocol)
    part = aggregate({name: both.sequences[name] for name in ("c", "d")}, both.attribute_sequences, both.protocol)
    weights = [111, 7] if protocol == "gtot" else [1, 1]
    assert (
        pytest.approx(np.average([both.sequences[name].PR for name in ("c", "d")], weights=weights)) == part.overall.PR
    )
    assert part.attribute_sequences == {"OCC": ("c",), "TC": ("d",)}
    assert part.attributes["OCC"].SR == both.sequences["c"].SR
    alone = aggregate({"c": both.sequences["c"]}, both.attribute_sequences, both.protocol)
    assert set(alone.attributes) == {"OCC"}


def written(folder: Path) -> tuple[Path, dict[str, object]]:
    path = folder / "curves.json"
    save_curves(path, scores("vot"))
    return path, json.loads(path.read_text())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content.update(format="other"), "format 'other' instead of 'mmdistill-curves-2'"),
        (lambda content: content["sequences"]["c"]["success"].pop(), "sequences.c.success: expected 21 counts"),
        (lambda content: content["sequences"]["c"].update(frames=1), "counts of up to 1 frames"),
        (lambda content: content["sequences"]["c"].update(frames=0), "sequences.c.frames: expected 1 to"),
        (lambda content: content["sequences"]["c"].update(frames=111.0), "sequences.c.frames: expected a whole number"),
        (lambda content: content["sequences"]["c"]["success"].__setitem__(3, 1.5), "sequences.c.success"),
        (lambda content: content["sequences"]["c"]["success"].__setitem__(3, float("nan")), "sequences.c.success"),
        (lambda content: content["sequences"].clear(), "no sequences"),
        (lambda content: content["rule"].update(color="red"), "color"),
        (lambda content: content["rule"].update(success="median"), "rule.success: expected one of mean, trapezoids"),
        (lambda content: content["rule"].update(precision_threshold=51), "rule.precision_threshold: expected 0 to 50"),
        (lambda content: content["rule"].update(precision_threshold=True), "rule.precision_threshold"),
        (lambda content: content["rule"].update(precision_strict=1), "rule.precision_strict"),
        (lambda content: content["having"].update(OCC="c"), "having.OCC: expected a list"),
        (lambda content: content["having"].update(OCC=["c", "c"]), "having.OCC"),
        (lambda content: content["having"].update(OCC=["nobody"]), "having.OCC"),
        (lambda content: content["sequences"].update(x="x" * 100_000), "sequences.x: expected an object"),
    ],
)
def test_a_file_that_is_something_else(change: Callable[[Any], object], says: str, tmp_path: Path) -> None:
    path, content = written(tmp_path)
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="expected curves as") as error:
        read_curves(path)
    assert str(error.value).startswith(f"{path}: ")
    assert says in str(error.value)
    assert len(str(error.value)) < 300 + len(str(path))


def test_every_missing_field_is_named(tmp_path: Path) -> None:
    path, content = written(tmp_path)

    def without(place: list[str]) -> None:
        whole = json.loads(json.dumps(content))
        inner = whole
        for name in place[:-1]:
            inner = inner[name]
        del inner[place[-1]]
        path.write_text(json.dumps(whole))

    places = [[name] for name in content] + [["rule", name] for name in asdict(PROTOCOLS["vot"])]
    places += [["sequences", "c", name] for name in ("frames", "precision", "normalized", "success")]
    for place in places:
        without(place)
        with pytest.raises(DataError, match=rf"curves\.json: .*{re.escape('.'.join(place))} is missing"):
            read_curves(path)


def test_a_file_that_is_no_curves_at_all(tmp_path: Path) -> None:
    path = tmp_path / "curves.json"
    path.write_text("[")
    with pytest.raises(DataError, match=r"curves\.json.*not JSON"):
        read_curves(path)
    with pytest.raises(DataError, match="cannot read the file"):
        read_curves(tmp_path / "none.json")
