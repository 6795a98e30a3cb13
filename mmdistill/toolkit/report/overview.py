"""The report's sections of all trackers: overall scores, scores by attribute, scores by sequence."""

from __future__ import annotations

import math
from collections.abc import Callable

from mmdistill.toolkit.evaluation.formatting import DASH, RATE_NAMES, pluralize
from mmdistill.toolkit.report.contents import ComparedTracker, Contents
from mmdistill.toolkit.report.markup import (
    Column,
    LineStyle,
    Markup,
    element,
    ranked_cells,
    sortable_table,
    swatch,
)

_TICK_STEPS = (1, 2, 5, 10, 20)
_MAX_TICKS = 9


def overall_section(contents: Contents) -> Markup:
    """Return the table of PR, NPR, SR, network cost and speed, sorted by SR."""
    order = sorted(range(len(contents.trackers)), key=lambda index: -contents.trackers[index].scores.overall.SR)
    trackers = [contents.trackers[index] for index in order]
    columns = [Column("Tracker", number=False)]
    columns += [Column(rate, f"{name}, percent", sorted_down=rate == "SR") for rate, name in RATE_NAMES.items()]
    cells = [ranked_cells([getattr(each.scores.overall, rate) for each in trackers]) for rate in RATE_NAMES]
    for column, make_cell in _efficiency_columns(trackers):
        columns.append(column)
        cells.append([make_cell(tracker) for tracker in trackers])
    rows = [
        element("tr", element("th", swatch(LineStyle(index)), tracker.name, scope="row"), *row)
        for index, tracker, row in zip(order, trackers, zip(*cells, strict=True), strict=True)
    ]
    caption = f"{pluralize(len(trackers), 'tracker')} on {pluralize(len(contents.sequences), 'sequence')}."
    ranks = "" if len(trackers) == 1 else " Bold: best. Underlined: second best."
    notes = [element("li", note) for note in _notes(contents)]
    return element(
        "section",
        element("h2", "Overall"),
        sortable_table(caption + ranks, columns, rows, class_="overall"),
        element("ul", *notes, class_="notes") if notes else None,
        id="overall",
    )


def _efficiency_columns(trackers: list[ComparedTracker]) -> list[tuple[Column, Callable[[ComparedTracker], Markup]]]:
    """Return the columns of cost and speed that have a value, each with the function that returns its cells."""
    columns: list[tuple[Column, Callable[[ComparedTracker], Markup]]] = []
    if any(each.cost for each in trackers):
        columns += [
            (
                Column("Parameters, M", "trained parameters, in millions"),
                lambda each: _cell(each.cost.parameters / 1e6 if each.cost else None, 1),
            ),
            (
                Column("Multiply-adds, G", "for one frame through the network, in billions"),
                lambda each: _cell(each.cost.multiply_adds / 1e9 if each.cost else None, 2),
            ),
        ]
    if any(each.frames_per_second for each in trackers):
        tooltip = "the tracker's own time, without reading images"
        columns.append((Column("Frames/s", tooltip), lambda each: _cell(each.frames_per_second, 1)))
    return columns


def _cell(value: float | None, decimals: int) -> Markup:
    return element("td", DASH if value is None else f"{value:.{decimals}f}", data_sort="" if value is None else value)


def _notes(contents: Contents) -> list[Markup | str]:
    notes: list[Markup | str] = []
    if len(contents.sequences) < contents.total:
        compared = f"{len(contents.sequences)} of {pluralize(contents.total, 'sequence')} are compared"
        notes.append(f"{compared}: those with results of all trackers.")
    for each in contents.trackers:
        if each.missing:
            summary = f"{each.name} has no result for {pluralize(len(each.missing), 'sequence')}"
            names = ", ".join(each.missing)
            notes.append(element("details", element("summary", summary), element("p", names)))
    notes += [f"{each.name}: {each.cost.what}." for each in contents.trackers if each.cost is not None]
    if any(each.cost for each in contents.trackers):
        notes.append(
            "Multiply-adds count convolutions and matrix products for one frame: trunk, fusion, classification "
            "features, score map and IoU features. Box refinement and online learning depend on the frame and are "
            "left out."
        )
    if any(each.frames_per_second for each in contents.trackers):
        notes.append(
            "Frames per second are the tracker's own speed on these sequences and the machine that ran it, without "
            "reading images and without first frames."
        )
    issues = _data_issues(contents)
    if issues:
        summary = element("summary", "Data issues and how they were handled")
        notes.append(element("details", summary, element("ul", *(element("li", line) for line in issues))))
    return notes


def _data_issues(contents: Contents) -> list[str]:
    """Return the kinds of data issues, without the files' names, because a page may be published."""
    issues = [("ground truth", contents.data_issues), *((each.name, each.data_issues) for each in contents.trackers)]
    return [
        f"{name}: {line}"
        for name, data_issues in issues
        for line in data_issues.lines(max_details=0)
        if not line.startswith(" ")
    ]


def sequences_section(contents: Contents) -> Markup:
    """Return a table for each of SR, NPR and PR: a row per sequence, a column per tracker."""
    views = [_sequences_view(contents, rate) for rate in reversed(list(RATE_NAMES))]
    return element(
        "section",
        element("h2", "Sequences"),
        element("div", *views, class_="views", data_label="Score"),
        id="sequences",
    )


def _sequences_view(contents: Contents, rate: str) -> Markup:
    columns = [Column("Sequence", number=False), Column("Frames", "number of counted frames")]
    columns += [Column(each.name) for each in contents.trackers]
    first = contents.trackers[0].scores
    rows = []
    for name in contents.sequences:
        cells = ranked_cells([getattr(each.scores.sequences[name], rate) for each in contents.trackers])
        frames = element("td", first.sequences[name].frames)
        rows.append(element("tr", element("th", name, scope="row"), frames, *cells))
    table = sortable_table(f"{rate} by sequence, percent.", columns, rows, class_="filtered")
    heading = element("h3", f"{rate}, {RATE_NAMES[rate]}")
    return element("div", heading, table, class_="view tall", data_view=rate)


def attributes_section(contents: Contents) -> Markup:
    """Return a chart and a table for each of SR, NPR and PR, or a line if there are no attributes.

    The chart is no radar chart: with 19 attributes, a radar's shape depends on the order of its axes and its values
    can't be read. Markers on one scale can be compared.
    """
    counts = attribute_counts(contents)
    heading = element("h2", "Attributes")
    if not counts:
        text = "Left out: the sequences have no attributes."
        return element("section", heading, element("p", text, class_="hint"), id="attributes")
    views = [_attributes_view(contents, counts, rate) for rate in reversed(list(RATE_NAMES))]
    hint = "One row per attribute, the most frequent first. Markers further right are better."
    entries = (element("li", swatch(style), name) for style, name in _trackers(contents))
    return element(
        "section",
        heading,
        element("p", hint, class_="hint"),
        element("ul", *entries, class_="legend wide"),
        element("div", *views, class_="views", data_label="Score"),
        id="attributes",
    )


def attribute_counts(contents: Contents) -> dict[str, int]:
    """Return the number of sequences of each attribute, in descending order."""
    names = contents.trackers[0].scores.attribute_sequences
    order = sorted(names, key=lambda attribute: (-len(names[attribute]), attribute))
    return {attribute: len(names[attribute]) for attribute in order}


def _trackers(contents: Contents) -> list[tuple[LineStyle, str]]:
    return [(LineStyle(index), tracker.name) for index, tracker in enumerate(contents.trackers)]


def _attributes_view(contents: Contents, counts: dict[str, int], rate: str) -> Markup:
    values = {
        attribute: [getattr(each.scores.attributes[attribute], rate) for each in contents.trackers]
        for attribute in counts
    }
    return element(
        "div",
        element("h3", f"{rate}, {RATE_NAMES[rate]}"),
        _attribute_chart(contents, rate, values, counts),
        element("details", element("summary", "Table"), _attribute_table(contents, rate, values, counts)),
        class_="view",
        data_view=rate,
    )


def _attribute_chart(contents: Contents, rate: str, values: dict[str, list[float]], counts: dict[str, int]) -> Markup:
    low, high, step = axis_range([value for row in values.values() for value in row])

    def left(value: float) -> str:
        return f"left:{100 * (value - low) / (high - low):.2f}%"

    ticks = [low + step * number for number in range(round((high - low) / step) + 1)]
    lines = [element("span", class_="line", style=left(tick)) for tick in ticks]
    axis = [element("span", f"{tick:g}", style=left(tick)) for tick in ticks]
    rows: list[Markup] = []
    for attribute, row in values.items():
        lowest, highest = min(row), max(row)
        width = f"width:{100 * (highest - lowest) / (high - low):.2f}%"
        markers = [
            element(
                "svg",
                element("title", f"{name} {value:.1f}"),
                element("path", class_="mark", d=style.marker),
                class_=f"dot {style.color}",
                viewBox="-6 -6 12 12",
                style=left(value),
            )
            for (style, name), value in reversed(list(zip(_trackers(contents), row, strict=True)))
        ]
        spread = element("span", class_="spread", style=f"{left(lowest)};{width}")
        rows += [
            element("span", attribute, class_="attribute"),
            element("span", counts[attribute], class_="count"),
            element("span", *lines, spread, *markers, class_="track"),
        ]
    head = [
        element("span", "Attribute", class_="head"),
        element("span", "Seqs", class_="head count", title="number of sequences with the attribute"),
        element("span", *axis, class_="axis"),
    ]
    shown = f"{pluralize(len(contents.trackers), 'tracker')} on {pluralize(len(values), 'attribute')}"
    return element(
        "div", *head, *rows, class_="dots", role="img", aria_label=f"{rate} of {shown}; the table below has the values"
    )


def _attribute_table(contents: Contents, rate: str, values: dict[str, list[float]], counts: dict[str, int]) -> Markup:
    columns = [Column("Attribute", number=False), Column("Sequences")]
    columns += [Column(each.name) for each in contents.trackers]
    overall = [getattr(each.scores.overall, rate) for each in contents.trackers]
    all_rows = [(attribute, counts[attribute], row) for attribute, row in values.items()]
    all_rows.append(("all sequences", len(contents.sequences), overall))
    rows = [
        element("tr", element("th", attribute, scope="row"), element("td", count), *ranked_cells(row))
        for attribute, count, row in all_rows
    ]
    return sortable_table(f"{rate} by attribute, percent.", columns, rows)


def axis_range(values: list[float]) -> tuple[float, float, float]:
    """Return the lower and the upper end of an axis that holds the values, and the step between its ticks."""
    lowest, highest = min(values), max(values)
    for step in _TICK_STEPS:
        low, high = math.floor(lowest / step) * step, math.ceil(highest / step) * step
        high = max(high, low + step)
        if (high - low) / step < _MAX_TICKS:
            break
    return float(low), float(high), float(step)
