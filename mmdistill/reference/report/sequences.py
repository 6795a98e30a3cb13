"""The table of all sequences and all trackers."""

from __future__ import annotations

from mmdistill.reference.report.contents import Contents
from mmdistill.reference.report.markup import Markup, element
from mmdistill.reference.report.ranks import figure_cells
from mmdistill.reference.report.tables import Column, sortable_table
from mmdistill.reference.report.words import FIGURES


def sequences_section(contents: Contents) -> Markup:
    """Return a table for each figure: a row for each sequence, a column for each tracker."""
    views = [_view(contents, figure) for figure in reversed(list(FIGURES))]
    return element(
        "section",
        element("h2", "Every sequence"),
        element("div", *views, class_="views", data_label="Figure"),
        id="sequences",
    )


def _view(contents: Contents, figure: str) -> Markup:
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
