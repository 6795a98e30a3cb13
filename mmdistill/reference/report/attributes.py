"""How the trackers do on the sequences of each attribute.

A row per attribute with a mark per tracker, not a radar: with up to nineteen attributes a radar's shape depends on the
order of its axes and its figures can't be read, while marks on one scale are compared at a glance.
"""

from __future__ import annotations

import math

from mmdistill.reference.report.contents import Contents
from mmdistill.reference.report.markup import Markup, element
from mmdistill.reference.report.palette import Look, swatch
from mmdistill.reference.report.ranks import figure_cells
from mmdistill.reference.report.tables import Column, sortable_table
from mmdistill.reference.report.words import FIGURES, several

_STEPS = (1, 2, 5, 10, 20)
_MOST_TICKS = 9


def attributes_section(contents: Contents) -> Markup:
    """Return a chart and a table for each figure, attributes of most sequences first; a line where there are none."""
    order = attribute_order(contents)
    heading = element("h2", "Attributes")
    if not order:
        line = "Left out: the sequences come without attributes."
        return element("section", heading, element("p", line, class_="hint"), id="attributes")
    views = [_view(contents, order, figure) for figure in reversed(list(FIGURES))]
    says = "Each row is the sequences of one attribute, those of most sequences first; marks further right are better."
    return element(
        "section",
        heading,
        element("p", says, class_="hint"),
        element("ul", *(element("li", swatch(look), name) for look, name in _trackers(contents)), class_="legend wide"),
        element("div", *views, class_="views", data_label="Figure"),
        id="attributes",
    )


def attribute_order(contents: Contents) -> list[str]:
    """Return the attributes' names, those of most sequences first."""
    having = contents.trackers[0].scores.having
    return sorted(having, key=lambda attribute: (-len(having[attribute]), attribute))


def _trackers(contents: Contents) -> list[tuple[Look, str]]:
    return [(Look(place), tracker.name) for place, tracker in enumerate(contents.trackers)]


def _view(contents: Contents, order: list[str], figure: str) -> Markup:
    values = {
        attribute: [getattr(each.scores.attributes[attribute], figure) for each in contents.trackers]
        for attribute in order
    }
    counts = {attribute: len(contents.trackers[0].scores.having[attribute]) for attribute in order}
    return element(
        "div",
        element("h3", f"{figure}, {FIGURES[figure]}"),
        _chart(contents, figure, values, counts),
        element("details", element("summary", "Figures"), _table(contents, figure, values, counts)),
        class_="view",
        data_view=figure,
    )


def _chart(contents: Contents, figure: str, values: dict[str, list[float]], counts: dict[str, int]) -> Markup:
    low, high, step = scale_of([value for row in values.values() for value in row])

    def across(value: float) -> str:
        return f"left:{100 * (value - low) / (high - low):.2f}%"

    places = [low + step * number for number in range(round((high - low) / step) + 1)]
    lines = [element("span", class_="line", style=across(place)) for place in places]
    axis = [element("span", f"{place:g}", style=across(place)) for place in places]
    rows: list[Markup] = []
    for attribute, row in values.items():
        least, most = min(row), max(row)
        width = f"width:{100 * (most - least) / (high - low):.2f}%"
        marks = [
            element(
                "svg",
                element("title", f"{name} {value:.1f}"),
                element("path", class_="mark", d=look.mark),
                class_=f"dot {look.colour}",
                viewBox="-6 -6 12 12",
                style=across(value),
            )
            for (look, name), value in reversed(list(zip(_trackers(contents), row, strict=True)))
        ]
        spread = element("span", class_="spread", style=f"{across(least)};{width}")
        rows += [
            element("span", attribute, class_="attribute"),
            element("span", counts[attribute], class_="count"),
            element("span", *lines, spread, *marks, class_="track"),
        ]
    head = [
        element("span", "Attribute", class_="head"),
        element("span", "Seqs", class_="head count", title="how many sequences have it"),
        element("span", *axis, class_="axis"),
    ]
    says = f"{figure} of {several(len(contents.trackers), 'tracker')} on {several(len(values), 'attribute')}"
    return element(
        "div", *head, *rows, class_="dots", role="img", aria_label=f"{says}; the table below has the figures"
    )


def _table(contents: Contents, figure: str, values: dict[str, list[float]], counts: dict[str, int]) -> Markup:
    columns = [
        Column("Attribute", number=False),
        Column("Sequences"),
        *(Column(name) for _, name in _trackers(contents)),
    ]
    overall = [getattr(each.scores.overall, figure) for each in contents.trackers]
    every = {**{attribute: (counts[attribute], row) for attribute, row in values.items()}}
    every["all sequences"] = (len(contents.sequences), overall)
    rows = [
        element("tr", element("th", attribute, scope="row"), element("td", count), *figure_cells(row))
        for attribute, (count, row) in every.items()
    ]
    return sortable_table(f"{figure} by attribute, percent.", columns, rows)


def scale_of(values: list[float]) -> tuple[float, float, float]:
    """Return the ends of an axis that holds the values, and a round step between its ticks."""
    least, most = min(values), max(values)
    for step in _STEPS:
        low, high = math.floor(least / step) * step, math.ceil(most / step) * step
        high = max(high, low + step)
        if (high - low) / step < _MOST_TICKS:
            break
    return float(low), float(high), float(step)
