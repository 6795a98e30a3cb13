from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mmdistill.toolkit.evaluation.metrics import score_benchmark
from mmdistill.toolkit.evaluation.plots import PLOT_COLORS, plot_attributes, plot_curves
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.scores import BenchmarkScores

TRUTH = np.tile([100.0, 100, 40, 30], (40, 1))
ODD = ("_a $x^{$", "it's <b>")


def scores(noise: float, attributes: tuple[str, ...]) -> BenchmarkScores:
    predicted = TRUTH + np.random.default_rng(0).normal(0, noise, TRUTH.shape)
    flags = {"a": {attribute: [True] for attribute in attributes}}
    return score_benchmark({"a": predicted}, {"a": (TRUTH,)}, PROTOCOLS["vot"], attributes=flags)


def test_a_mark_for_each_tracker_and_a_row_for_each_attribute(tmp_path: Path) -> None:
    few, many = (
        {name: scores(noise, attributes) for name, noise in zip(ODD, (1, 6), strict=True)}
        for attributes in (("OCC", "$\\frac$"), tuple("abcdefghijklmnopqrs"))
    )
    (small,) = plot_attributes(few, tmp_path, prefix="few_")
    (large,) = plot_attributes(many, tmp_path, prefix="many_")
    assert (small.name, large.name) == ("few_attributes.png", "many_attributes.png")
    images = [cv2.imread(str(path)) for path in (small, large)]
    assert images[1].shape[0] > images[0].shape[0] + 17 * 30
    for color in PLOT_COLORS[:2]:
        blue_green_red = tuple(int(color[place : place + 2], 16) for place in (5, 3, 1))
        pixels = [(image == blue_green_red).all(axis=-1).sum() for image in images]
        assert pixels[1] > 4 * pixels[0] > 100


def test_nothing_without_attributes(tmp_path: Path) -> None:
    assert plot_attributes({"one": scores(1, ())}, tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_odd_names_are_no_mathematics_in_any_plot(tmp_path: Path) -> None:
    paths = plot_curves({name: scores(2, ()) for name in ODD}, tmp_path, prefix="report_")
    assert [path.name for path in paths] == [
        "report_success.png",
        "report_precision.png",
        "report_normalized_precision.png",
    ]
