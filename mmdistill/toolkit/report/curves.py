"""The report's section of precision, normalized precision and success plots."""

from __future__ import annotations

import math

import numpy as np

from mmdistill.toolkit.evaluation.formatting import CurveLabels, curve_labels, pluralize
from mmdistill.toolkit.evaluation.scores import Scores
from mmdistill.toolkit.report.contents import Contents
from mmdistill.toolkit.report.markup import (
    LineStyle,
    Markup,
    PlotArea,
    element,
    join_labels,
    join_values,
    legend,
    legend_entry,
    svg_drawing,
    swatch,
)


def curves_section(contents: Contents) -> Markup:
    """Return the three plots, each with a legend that has the best tracker first."""
    plots = [
        element("figure", *_plot(labels, contents), class_="chart plot") for labels in curve_labels(contents.protocol)
    ]
    hint = "To read values, point at a plot, or select it and press the arrow keys."
    return element(
        "section",
        element("h2", "Precision and success"),
        element("p", hint, class_="hint needs-script"),
        element("div", *plots, class_="plots"),
        id="curves",
    )


def _plot(labels: CurveLabels, contents: Contents) -> list[Markup]:
    """Return caption, drawing and legend."""
    trackers = [
        (LineStyle(index), tracker.name, tracker.scores.overall) for index, tracker in enumerate(contents.trackers)
    ]
    best_first = sorted(trackers, key=lambda each: -getattr(each[2], labels.rate))
    entries = [
        legend_entry(
            name,
            swatch(style),
            f"{getattr(scores, labels.rate):.1f}",
            join_values(getattr(scores, labels.curve), 1),
            data_tracker=style.index,
        )
        for style, name, scores in best_first
    ]
    return [
        element("figcaption", labels.title),
        _drawing(labels, trackers, best_first[0][1]),
        legend(labels.rate, entries),
    ]


def _drawing(labels: CurveLabels, trackers: list[tuple[LineStyle, str, Scores]], best: str) -> Markup:
    first, last = float(labels.thresholds[0]), float(labels.thresholds[-1])
    # The vertical axis starts at zero and ends above the highest curve.
    highest = max(float(getattr(scores, labels.curve).max()) for _, _, scores in trackers)
    step = 10 if highest <= 70 else 20
    ceiling = max(step, math.ceil(highest / step) * step)
    y_ticks, x_ticks = range(0, ceiling + 1, step), np.linspace(first, last, 6).tolist()
    area = PlotArea(400, 310, 50, 12, 10, 42, (first, last), (0, ceiling))
    left, right, top, bottom = area.x(first), area.x(last), area.y(ceiling), area.y(0)
    grid = [element("line", x1=left, x2=right, y1=area.y(value), y2=area.y(value)) for value in y_ticks]
    grid += [element("line", x1=area.x(value), x2=area.x(value), y1=top, y2=bottom) for value in x_ticks]
    texts = [
        *(element("text", f"{value}", x=left - 7, y=area.y(value) + 4, class_="end") for value in y_ticks),
        *(element("text", f"{value:g}", x=area.x(value), y=bottom + 17) for value in x_ticks),
        element("text", labels.x_label, x=(left + right) / 2, y=area.height - 6),
        element("text", labels.y_label, transform=f"translate(13 {(top + bottom) / 2:g}) rotate(-90)"),
    ]
    mark = None
    if labels.mark is not None:
        mark = element("line", class_="read-off", x1=area.x(labels.mark), x2=area.x(labels.mark), y1=top, y2=bottom)
    title = f"{labels.title} of {pluralize(len(trackers), 'tracker')}; {best} is best; the legend has the values"
    return svg_drawing(
        title,
        labels.curve,
        element("g", *grid, class_="grid"),
        mark,
        # The first tracker is drawn last, on top of the others.
        *(_curve(labels, area, *each) for each in reversed(trackers)),
        element("g", *texts, class_="ticks"),
        element("line", class_="cursor", x1=0, x2=0, y1=top, y2=bottom),
        class_="drawing",
        viewBox=f"0 0 {area.width:g} {area.height:g}",
        tabindex=0,
        data_labels=join_labels(labels.threshold_format.format(threshold) for threshold in labels.thresholds),
        data_left=f"{left / area.width:.4f}",
        data_right=f"{right / area.width:.4f}",
    )


def _curve(labels: CurveLabels, area: PlotArea, style: LineStyle, name: str, scores: Scores) -> Markup:
    values = getattr(scores, labels.curve)
    points = area.points(labels.thresholds, values)
    line = element("polyline", class_="curve", points=points, stroke_dasharray=style.dash or None)
    marker = None
    if labels.mark is not None:
        value = float(values[np.abs(labels.thresholds - labels.mark).argmin()])
        position = f"translate({area.x(labels.mark):g} {area.y(value):g})"
        marker = element("path", class_="mark", d=style.marker, transform=position)
    return element("g", element("title", name), line, marker, class_=style.color, data_tracker=style.index)
