# ruff: noqa: RUF005, SIM300 (an array plus a list is a sum, and PR, NPR and SR are no constants)
"""How the sequences of a benchmark become one figure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from box_tracks import EVERY_PROTOCOL, moving, truths_for

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.metrics import score_benchmark, score_sequence
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS, ScoringProtocol
from mmdistill.toolkit.evaluation.scores import save_scores


def two_sequences() -> tuple[dict[str, np.ndarray], dict[str, tuple[np.ndarray, ...]]]:
    """A short sequence tracked perfectly, and one three times as long that is lost from the start."""
    short, long = moving(3), moving(9)
    return {"short": short, "long": long + [1000, 0, 0, 0]}, {"short": (short,), "long": (long,)}


def test_mean_of_sequences_and_pooled_frames() -> None:
    predicted, truths = two_sequences()
    protocol = replace(PROTOCOLS["vot"], first_frame="as_predicted")
    assert score_benchmark(predicted, truths, protocol).overall.PR == pytest.approx(50)
    pooled = score_benchmark(predicted, truths, replace(protocol, aggregation="pooled"))
    assert pooled.overall.PR == pytest.approx(25)
    assert pooled.overall.SR == pytest.approx(25 * 20 / 21)
    assert pooled.overall.frames == 12


def test_pooled_is_scoring_all_frames_as_one_sequence() -> None:
    generator = np.random.default_rng(1)
    truths = {str(length): (moving(length), moving(length) + 1) for length in (2, 5, 11)}
    predicted = {name: truth[0] + generator.normal(0, 4, truth[0].shape) for name, truth in truths.items()}
    pooled = score_benchmark(predicted, truths, PROTOCOLS["gtot"]).overall
    chained = tuple(np.concatenate([truth[side] for truth in truths.values()]) for side in (0, 1))
    together = score_sequence(np.concatenate(list(predicted.values())), chained, PROTOCOLS["gtot"])
    assert pooled.rates() == together.rates()


def test_attributes_take_the_sequences_that_have_them_on_any_frame() -> None:
    predicted, truths = two_sequences()
    attributes = {
        "short": {"occlusion": [False, True, False], "fast_motion": [False] * 3},
        "long": {"occlusion": np.zeros(9, bool), "fast_motion": True, "dark": np.ones(9, bool)},
    }
    protocol = replace(PROTOCOLS["synthetic"], first_frame="as_predicted")
    scores = score_benchmark(predicted, truths, protocol, attributes=attributes)
    assert {name: each.PR for name, each in scores.attributes.items()} == pytest.approx(
        {"occlusion": 100, "fast_motion": 0, "dark": 0}
    )


def test_json(tmp_path: Path) -> None:
    predicted, truths = two_sequences()
    scores = score_benchmark(predicted, truths, PROTOCOLS["vot"], attributes={"short": {"dark": [1, 0, 0]}})
    save_scores(tmp_path / "out" / "scores.json", scores)
    text = (tmp_path / "out" / "scores.json").read_text()
    perfect = {"PR": 100.0, "NPR": 100.0, "SR": 95.2381}
    first_frame_only = {"PR": 11.1111, "NPR": 11.1111, "SR": 10.582}
    assert text == scores.to_json()
    assert json.loads(text) == {
        "benchmark": "vot",
        "rule": PROTOCOLS["vot"].description,
        "overall": {"PR": 55.5556, "NPR": 55.5556, "SR": 52.9101},
        "sequences": {"short": perfect, "long": first_frame_only},
        "attributes": {"dark": perfect},
    }


@EVERY_PROTOCOL
def test_the_bounds_of_a_benchmark(protocol: ScoringProtocol) -> None:
    truths = {str(length): truths_for(protocol, moving(length)) for length in (3, 8)}
    best = score_benchmark({name: truth[0] for name, truth in truths.items()}, truths, protocol).overall
    perfect = 97.5 if protocol.success == "trapezoids" else 100 * 20 / 21
    assert (best.PR, best.NPR, best.SR) == pytest.approx((100, 100, perfect))
    worst = score_benchmark({name: truth[0] + 5000 for name, truth in truths.items()}, truths, protocol).overall
    # The given first frame is all that a lost tracker may keep.
    kept = (1 / 3 + 1 / 8) / 2 if protocol.first_frame == "truth" else 0
    assert (worst.PR, worst.NPR, worst.SR) == pytest.approx((100 * kept, 100 * kept, perfect * kept))


def test_missing_prediction_is_named() -> None:
    predicted, truths = two_sequences()
    del predicted["long"]
    with pytest.raises(DataError, match="1 of 2 sequences have no prediction: long"):
        score_benchmark(predicted, truths, PROTOCOLS["vot"])
    with pytest.raises(DataError, match="no sequence"):
        score_benchmark(predicted, {}, PROTOCOLS["vot"])
