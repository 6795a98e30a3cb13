from __future__ import annotations

from dataclasses import FrozenInstanceError, astuple

import pytest

from mmdistill.toolkit.evaluation.protocols import PROTOCOLS, ScoringProtocol


def test_every_benchmark_has_a_rule_under_its_own_name() -> None:
    names = "gtot rgbt210 rgbt234 lasher vtuav lsotb-tir ptb-tir vot synthetic"
    assert list(PROTOCOLS) == names.split()
    assert all(protocol.benchmark == name for name, protocol in PROTOCOLS.items())


def test_rules_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        PROTOCOLS["gtot"].precision_threshold = 20  # type: ignore[misc]
    with pytest.raises(TypeError):
        PROTOCOLS["gtot"] = ScoringProtocol("gtot")  # type: ignore[index]


def test_descriptions_say_what_differs() -> None:
    assert PROTOCOLS["gtot"].description == (
        "pooled over all frames; PR: center error < 5 px; NPR: normalized error <= 0.2; "
        "SR: area by trapezoids over 21 thresholds; ground truth: the better of both modalities' boxes, "
        "taken as they are; first frame: as predicted"
    )
    assert PROTOCOLS["lsotb-tir"].description == (
        "mean of sequences; PR: center error <= 20 px; NPR: mean over 51 thresholds 0 to 0.5; "
        "SR: mean over 21 thresholds; ground truth: TIR boxes, a hit for PR and NPR and a miss for SR where "
        "any of x, y, w, h <= 0; first frame: ground truth, counted"
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["gtot"], ("best", "pooled", 5, True, "share", "trapezoids", "as_predicted", "as_is")),
        (
            ["rgbt210", "rgbt234", "vtuav"],
            ("best", "sequences", 20, False, "share", "mean", "as_predicted", "as_is"),
        ),
        (["lasher"], ("shared", "sequences", 20, False, "share", "mean", "truth", "precision_hit")),
        (["lsotb-tir"], ("tir", "sequences", 20, False, "mean", "mean", "truth", "precision_hit")),
        (["ptb-tir"], ("tir", "sequences", 20, False, "share", "mean", "truth", "precision_hit")),
        (["vot", "synthetic"], ("shared", "sequences", 20, False, "share", "mean", "truth", "left_out")),
    ],
)
def test_each_rule_is_the_benchmarks_own(names: list[str], expected: tuple[object, ...]) -> None:
    """As the documents' table has them, written down once more."""
    for name in names:
        assert astuple(PROTOCOLS[name]) == (name, *expected, False)
