"""The table of all trackers."""

from __future__ import annotations

from collections.abc import Callable

from mmdistill.reference.report.contents import Contents, Tracker
from mmdistill.reference.report.markup import Markup, element
from mmdistill.reference.report.palette import Look, swatch
from mmdistill.reference.report.ranks import figure_cells
from mmdistill.reference.report.tables import Column, sortable_table
from mmdistill.reference.report.words import DASH, FIGURES, several


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
    files = [("ground truth", contents.oddities), *((each.name, each.oddities) for each in contents.trackers)]
    return [
        f"{name}: {line}" for name, oddities in files for line in oddities.lines(most=0) if not line.startswith(" ")
    ]
