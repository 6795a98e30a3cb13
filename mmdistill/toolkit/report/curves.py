"""The precision, normalized precision and success plots."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.evaluation.metrics import NORMALIZED_THRESHOLDS, PRECISION_THRESHOLDS, SUCCESS_THRESHOLDS, Scores
from mmdistill.toolkit.evaluation.protocols import Rule
from mmdistill.toolkit.report.charts import Frame, Look, described, legend, legend_entry, lines, numbers, swatch
from mmdistill.toolkit.report.contents import Contents
from mmdistill.toolkit.report.markup import Markup, element


@dataclass(frozen=True)
class _Plot:
    """One of the three.

    Attributes:
        figure: PR, NPR or SR.
        curve: the name of the curve in ``Scores``.
        title: above it.
        thresholds: along the horizontal axis.
        axis: what they are.
        at: a threshold in words, ``{}`` standing for it.
        ticks: along the horizontal axis.
        mark: the threshold at which the figure is read off, if it is.
    """

    figure: str
    curve: str
    title: str
    thresholds: Array
    axis: str
    at: str
    ticks: tuple[float, ...]
    mark: float | None


def curves_section(contents: Contents) -> Markup:
    """Return the three plots, a legend below each with the best tracker first."""
    plots = [element("figure", *_figure(plot, contents), class_="chart plot") for plot in _plots(contents.rule)]
    hint = "Point at a plot, or select it and use the arrow keys, to read values off."
    return element(
        "section",
        element("h2", "Precision and success"),
        element("p", hint, class_="hint needs-script"),
        element("div", *plots, class_="plots"),
        id="curves",
    )


def _plots(rule: Rule) -> list[_Plot]:
    within = "<" if rule.precision_strict else "≤"
    pixels = rule.precision_threshold
    share = rule.normalized == "share"
    area = "mean of the points" if rule.success == "mean" else "area below"
    return [
        _Plot(
            "PR",
            "precision",
            f"Precision (PR at {pixels} px)",
            PRECISION_THRESHOLDS,
            "Center error threshold, pixels",
            f"error {within} {{:g}} px",
            (0, 10, 20, 30, 40, 50),
            pixels,
        ),
        _Plot(
            "NPR",
            "normalized",
            f"Normalized precision (NPR {'at 0.2' if share else 'over 0 to 0.5'})",
            NORMALIZED_THRESHOLDS,
            "Center error threshold, target sizes",
            "error ≤ {:.2f} sizes",
            (0, 0.1, 0.2, 0.3, 0.4, 0.5),
            0.2 if share else None,
        ),
        _Plot(
            "SR",
            "success",
            f"Success (SR, {area})",
            SUCCESS_THRESHOLDS,
            "Overlap threshold, IoU",
            "IoU > {:.2f}",
            (0, 0.2, 0.4, 0.6, 0.8, 1),
            None,
        ),
    ]


def _figure(plot: _Plot, contents: Contents) -> list[Markup]:
    """Return caption, drawing and legend."""
    overall = [(Look(place), tracker.name, tracker.scores.overall) for place, tracker in enumerate(contents.trackers)]
    best_first = sorted(overall, key=lambda each: -getattr(each[2], plot.figure))
    entries = [
        legend_entry(
            name,
            swatch(look),
            f"{getattr(scores, plot.figure):.1f}",
            numbers(getattr(scores, plot.curve), 1),
            data_tracker=look.place,
        )
        for look, name, scores in best_first
    ]
    labels = lines(plot.at.format(threshold) for threshold in plot.thresholds)
    return [
        element("figcaption", plot.title),
        _drawing(plot, overall, best_first[0][1], labels),
        legend(plot.figure, entries),
    ]


def _drawing(plot: _Plot, overall: list[tuple[Look, str, Scores]], best: str, labels: str) -> Markup:
    first, last = float(plot.thresholds[0]), float(plot.thresholds[-1])
    # All three from zero, no higher than the highest curve needs.
    highest = max(float(getattr(scores, plot.curve).max()) for _, _, scores in overall)
    step = 10 if highest <= 70 else 20
    ceiling = max(step, math.ceil(highest / step) * step)
    heights = range(0, ceiling + 1, step)
    frame = Frame(400, 310, 50, 12, 10, 42, (first, last), (0, ceiling))
    left, right, top, bottom = frame.x(first), frame.x(last), frame.y(ceiling), frame.y(0)
    grid = [element("line", x1=left, x2=right, y1=frame.y(value), y2=frame.y(value)) for value in heights]
    grid += [element("line", x1=frame.x(value), x2=frame.x(value), y1=top, y2=bottom) for value in plot.ticks]
    words = [
        *(element("text", f"{value}", x=left - 7, y=frame.y(value) + 4, class_="end") for value in heights),
        *(element("text", f"{value:g}", x=frame.x(value), y=bottom + 17) for value in plot.ticks),
        element("text", plot.axis, x=(left + right) / 2, y=frame.height - 6),
        element("text", "Frames, %", transform=f"translate(13 {(top + bottom) / 2:g}) rotate(-90)"),
    ]
    mark = None
    if plot.mark is not None:
        mark = element("line", class_="read-off", x1=frame.x(plot.mark), x2=frame.x(plot.mark), y1=top, y2=bottom)
    title = f"{plot.title} of {len(overall)} trackers, frames in percent; {best} is highest, figures are in the legend"
    return described(
        title,
        plot.curve,
        element("g", *grid, class_="grid"),
        mark,
        # The first tracker is drawn last, above the others.
        *(_curve(plot, frame, *each) for each in reversed(overall)),
        element("g", *words, class_="ticks"),
        element("line", class_="cursor", x1=0, x2=0, y1=top, y2=bottom),
        class_="drawing",
        viewBox=f"0 0 {frame.width:g} {frame.height:g}",
        tabindex=0,
        data_labels=labels,
        data_left=f"{left / frame.width:.4f}",
        data_right=f"{right / frame.width:.4f}",
    )


def _curve(plot: _Plot, frame: Frame, look: Look, name: str, scores: Scores) -> Markup:
    values = getattr(scores, plot.curve)
    line = element(
        "polyline",
        class_="curve",
        points=frame.points(plot.thresholds, values),
        stroke_dasharray=look.dash or None,
    )
    mark = None
    if plot.mark is not None:
        value = float(values[np.abs(plot.thresholds - plot.mark).argmin()])
        place = f"translate({frame.x(plot.mark):g} {frame.y(value):g})"
        mark = element("path", class_="mark", d=look.mark, transform=place)
    return element("g", element("title", name), line, mark, class_=look.color, data_tracker=look.place)
