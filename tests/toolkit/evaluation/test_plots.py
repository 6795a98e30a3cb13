from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation import plots
from mmdistill.toolkit.evaluation.metrics import score_benchmark
from mmdistill.toolkit.evaluation.plots import PLOT_COLORS, plot_attributes, plot_curves
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.scores import BenchmarkScores

TRUTH = np.tile([100.0, 100, 40, 30], (40, 1))


def scores(noise: float, protocol: str = "vot") -> BenchmarkScores:
    predicted = TRUTH + np.random.default_rng(0).normal(0, noise, TRUTH.shape)
    truth = (TRUTH, TRUTH) if PROTOCOLS[protocol].truth == "best" else (TRUTH,)
    return score_benchmark({"a": predicted}, {"a": truth}, PROTOCOLS[protocol])


def test_three_images(tmp_path: Path) -> None:
    backend = mpl.rcParams["backend"]
    folder = tmp_path / "report"
    paths = plot_curves({"student": scores(3), "teacher": scores(1)}, folder)
    assert [path.name for path in paths] == ["success.png", "precision.png", "normalized_precision.png"]
    assert sorted(folder.iterdir()) == sorted(paths)
    images = [cv2.imread(str(path)) for path in paths]
    assert len({image.tobytes() for image in images}) == 3
    for image in images:
        assert image.shape[1] > 800
        # Both trackers' lines are there, in their colors (BGR).
        for color in ((0xB2, 0x72, 0x00), (0x00, 0x5E, 0xD5)):
            assert (image == color).all(axis=-1).sum() > 300
    assert mpl.rcParams["backend"] == backend


def legends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trackers: dict[str, BenchmarkScores]) -> list[list[str]]:
    """Return each plot's legend, top to bottom."""
    seen = []

    class Recorded(plots.Figure):  # type: ignore[misc]
        def savefig(self, *args: object, **options: object) -> None:
            legend = self.axes[0].get_legend() or self.legends[0]
            seen.append([text.get_text() for text in legend.get_texts()])
            super().savefig(*args, **options)

    monkeypatch.setattr(plots, "Figure", Recorded)
    plot_curves(trackers, tmp_path)
    return seen


def test_the_legend_has_the_best_first_with_its_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, fair, poor = scores(1, "gtot"), scores(4, "gtot"), scores(12, "gtot")
    trackers = {"fair": fair, "poor": poor, "good": good}
    success, precision, normalized = legends(tmp_path, monkeypatch, trackers)
    ranked = {"good": good.overall, "fair": fair.overall, "poor": poor.overall}
    assert success == [f"[{each.SR:.1f}] {name}" for name, each in ranked.items()]
    assert precision == [f"[{each.PR:.1f}] {name}" for name, each in ranked.items()]
    assert normalized == [f"[{each.NPR:.1f}] {name}" for name, each in ranked.items()]


@pytest.mark.slow
def test_many_trackers_get_a_legend_beside_the_plot(tmp_path: Path) -> None:
    few = plot_curves({str(k): scores(k) for k in range(1, 7)}, tmp_path / "few")
    many = plot_curves({str(k): scores(k) for k in range(1, 31)}, tmp_path / "many")
    assert cv2.imread(str(many[0])).shape[1] > cv2.imread(str(few[0])).shape[1]


def test_trackers_scored_differently_do_not_share_a_plot(tmp_path: Path) -> None:
    rounded = replace(PROTOCOLS["vot"], round_predictions=True)
    other = score_benchmark({"a": TRUTH}, {"a": (TRUTH,)}, rounded)
    with pytest.raises(DataError, match="2 trackers and 2 protocols"):
        plot_curves({"a": scores(1), "b": other}, tmp_path)
    with pytest.raises(DataError, match="0 trackers"):
        plot_curves({}, tmp_path)
    assert not list(tmp_path.iterdir())


ODD = ("_a $x^{$", "it's <b>")


def attribute_scores(noise: float, attributes: tuple[str, ...]) -> BenchmarkScores:
    predicted = TRUTH + np.random.default_rng(0).normal(0, noise, TRUTH.shape)
    flags = {"a": {attribute: [True] for attribute in attributes}}
    return score_benchmark({"a": predicted}, {"a": (TRUTH,)}, PROTOCOLS["vot"], attributes=flags)


def test_a_mark_for_each_tracker_and_a_row_for_each_attribute(tmp_path: Path) -> None:
    few, many = (
        {name: attribute_scores(noise, attributes) for name, noise in zip(ODD, (1, 6), strict=True)}
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
    assert plot_attributes({"one": attribute_scores(1, ())}, tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_odd_names_are_no_mathematics_in_any_plot(tmp_path: Path) -> None:
    paths = plot_curves({name: scores(2) for name in ODD}, tmp_path, prefix="report_")
    assert [path.name for path in paths] == [
        "report_success.png",
        "report_precision.png",
        "report_normalized_precision.png",
    ]


def test_matplotlib_is_imported_when_a_plot_is_asked_for_by_the_package() -> None:
    code = (
        "import sys, mmdistill.toolkit.evaluation as evaluation\n"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules\n"
        "assert all(getattr(evaluation, name) is not None for name in evaluation.__all__)\n"
        "assert 'matplotlib' in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
