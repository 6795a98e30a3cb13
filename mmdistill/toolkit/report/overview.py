"""The table of all trackers.

The table of all sequences and all trackers.

How the trackers do on the sequences of each attribute.

A row per attribute with a mark per tracker, not a radar: with up to nineteen attributes a radar's shape depends on the
order of its axes and its figures can't be read, while marks on one scale are compared at a glance.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mmdistill.toolkit.report.charts import Look, swatch
from mmdistill.toolkit.report.contents import Contents, Tracker
from mmdistill.toolkit.report.markup import (
    DASH,
    FIGURES,
    Column,
    Markup,
    element,
    figure_cells,
    several,
    sortable_table,
)


def overall_section(contents: Contents) -> Markup:
    """Return the table of PR, NPR and SR, the best tracker by SR first, with cost and speed where they are known."""
    order = sorted(range(len(contents.trackers)), key=lambda place: -contents.trackers[place].scores.overall.SR)
    trackers = [contents.trackers[place] for place in order]
    columns = [Column("Tracker", number=False)]
    columns += [Column(name, f"{what}, percent", sorted_down=name == "SR") for name, what in FIGURES.items()]
    figures = [figure_cells([getattr(each.scores.overall, name) for each in trackers]) for name in FIGURES]
    for column, cell in _known(trackers):
        columns.append(column)
        figures.append([cell(tracker) for tracker in trackers])
    rows = [
        element("tr", element("th", swatch(Look(place)), tracker.name, scope="row"), *cells)
        for place, tracker, cells in zip(order, trackers, zip(*figures, strict=True), strict=True)
    ]
    caption = f"{several(len(trackers), 'tracker')} on {several(len(contents.sequences), 'sequence')}."
    marked = "" if len(trackers) == 1 else " The best figure is bold, the second underlined."
    notes = [element("li", note) for note in _notes(contents)]
    return element(
        "section",
        element("h2", "Overall"),
        sortable_table(caption + marked, columns, rows, class_="overall"),
        element("ul", *notes, class_="notes") if notes else None,
        id="overall",
    )


def _known(trackers: list[Tracker]) -> list[tuple[Column, Callable[[Tracker], Markup]]]:
    """Return the columns that hold anything, each with what makes its cells."""
    columns: list[tuple[Column, Callable[[Tracker], Markup]]] = []
    if any(each.cost for each in trackers):
        columns += [
            (
                Column("Parameters, M", "of all that is trained, in millions"),
                lambda each: _cell(each.cost.parameters / 1e6 if each.cost else None, 1),
            ),
            (
                Column("Multiply-adds, G", "of one frame through the network, in thousand millions"),
                lambda each: _cell(each.cost.multiply_adds / 1e9 if each.cost else None, 2),
            ),
        ]
    if any(each.frames_per_second for each in trackers):
        explained = "of the tracker alone, without reading images"
        columns.append((Column("Frames/s", explained), lambda each: _cell(each.frames_per_second, 1)))
    return columns


def _cell(value: float | None, decimals: int) -> Markup:
    return element("td", DASH if value is None else f"{value:.{decimals}f}", data_sort="" if value is None else value)


def _notes(contents: Contents) -> list[Markup | str]:
    """Return what a reader must know of the figures above."""
    notes: list[Markup | str] = []
    if len(contents.sequences) < contents.total:
        compared = f"{len(contents.sequences)} of {several(contents.total, 'sequence')} are compared"
        notes.append(f"{compared}, those for which every tracker has a result.")
    for each in contents.trackers:
        if each.missing:
            shown = ", ".join(each.missing)
            summary = f"{each.name} has no result for {several(len(each.missing), 'sequence')}"
            notes.append(element("details", element("summary", summary), element("p", shown)))
    for each in contents.trackers:
        if each.cost is not None:
            notes.append(f"{each.name}: {each.cost.what}.")
    if any(each.cost for each in contents.trackers):
        notes.append(
            "Multiply-adds are those of convolutions and matrix products of one frame through the network: trunk, "
            "fusion, classification features, score map and IoU features. Box refinement and online learning, which "
            "depend on the frame, are not in them."
        )
    if any(each.frames_per_second for each in contents.trackers):
        notes.append(
            "Frames per second are the tracker's own time over these sequences, without reading images and without "
            "the first frame, on the machine that ran it."
        )
    odd = _odd(contents)
    if odd:
        summary = element("summary", "What was odd in the files, and what was made of it")
        notes.append(element("details", summary, element("ul", *(element("li", line) for line in odd))))
    return notes


def _odd(contents: Contents) -> list[str]:
    """Return each kind of oddity; in which files exactly is for the terminal, for a page goes to others."""
    files = [("ground truth", contents.data_issues), *((each.name, each.data_issues) for each in contents.trackers)]
    return [
        f"{name}: {line}"
        for name, data_issues in files
        for line in data_issues.lines(max_details=0)
        if not line.startswith(" ")
    ]


def sequences_section(contents: Contents) -> Markup:
    """Return a table for each figure: a row for each sequence, a column for each tracker."""
    views = [_sequences_view(contents, figure) for figure in reversed(list(FIGURES))]
    return element(
        "section",
        element("h2", "Every sequence"),
        element("div", *views, class_="views", data_label="Figure"),
        id="sequences",
    )


def _sequences_view(contents: Contents, figure: str) -> Markup:
    columns = [Column("Sequence", number=False), Column("Frames", "that were counted")]
    columns += [Column(each.name) for each in contents.trackers]
    first = contents.trackers[0].scores
    rows = []
    for name in contents.sequences:
        cells = figure_cells([getattr(each.scores.sequences[name], figure) for each in contents.trackers])
        frames = element("td", first.sequences[name].frames)
        rows.append(element("tr", element("th", name, scope="row"), frames, *cells))
    table = sortable_table(f"{figure} by sequence, percent.", columns, rows, class_="filtered")
    heading = element("h3", f"{figure}, {FIGURES[figure]}")
    return element("div", heading, table, class_="view tall", data_view=figure)


_STEPS = (1, 2, 5, 10, 20)
_MOST_TICKS = 9


def attributes_section(contents: Contents) -> Markup:
    """Return a chart and a table for each figure, attributes of most sequences first; a line where there are none."""
    order = attribute_order(contents)
    heading = element("h2", "Attributes")
    if not order:
        line = "Left out: the sequences come without attributes."
        return element("section", heading, element("p", line, class_="hint"), id="attributes")
    views = [_attributes_view(contents, order, figure) for figure in reversed(list(FIGURES))]
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


def _attributes_view(contents: Contents, order: list[str], figure: str) -> Markup:
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
                class_=f"dot {look.color}",
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
