"""The report's section that compares pairs of trackers by sequence."""

from __future__ import annotations

import numpy as np

from mmdistill.toolkit.evaluation.formatting import DASH, pluralize, signed
from mmdistill.toolkit.report.closeups import closeup, closeup_id
from mmdistill.toolkit.report.comparisons import MAX_PAIRS, MIN_LEAD, SequencePair, TrackerPair, pair_trackers
from mmdistill.toolkit.report.contents import Contents
from mmdistill.toolkit.report.markup import (
    Column,
    LineStyle,
    Markup,
    element,
    join,
    join_labels,
    join_values,
    legend,
    legend_entry,
    sortable_table,
    svg_drawing,
    swatch,
)
from mmdistill.toolkit.report.overview import axis_range

TABLE_ROWS = 5
"""Sequences in a pair's table, per tracker."""

MAX_SPACED_BARS = 60
"""Number of bars up to which there are gaps between them."""


def pairs_section(contents: Contents, examples: int) -> Markup | None:
    """Return the section, or None for a single tracker.

    Args:
        contents: the report's contents.
        examples: sequences shown in closeup, per tracker of a pair.
    """
    pairs = pair_trackers(contents)
    if not pairs:
        return None
    views = [_view(contents, pair, examples) for pair in pairs]
    return element(
        "section",
        element("h2", "Pairs of trackers"),
        *(element("p", note, class_="hint") for note in _notes(contents, examples)),
        element("div", *views, class_="views", data_label="Pair"),
        id="pairs",
    )


def _notes(contents: Contents, examples: int) -> list[str]:
    notes = []
    trackers = len(contents.trackers)
    if trackers * (trackers - 1) // 2 > MAX_PAIRS:
        first = contents.trackers[0].name
        notes.append(f"The first of {trackers} trackers, {first}, is compared with each of the others.")
    if not contents.ground_truth:
        notes.append("Closeups are left out: they need raw results and the ground truth.")
        return notes
    notes.append(
        f"Two trackers diverge at the frame from which on one of them leads by {MIN_LEAD} IoU on average, over any "
        "range of frames that starts there."
    )
    if examples and not any(truth.frame for truth in contents.ground_truth.values()):
        notes.append("Frames are left out: there are no images.")
    return notes


def _view(contents: Contents, pair: TrackerPair, examples: int) -> Markup:
    first, second = pair.names
    ahead, behind = pair.largest_leads(examples if contents.ground_truth else 0)
    shown = [*ahead, *behind]
    return element(
        "div",
        element("h3", f"{first} and {second}"),
        element("p", _summary(pair)),
        element("figure", *_chart(contents, pair), class_="chart wide"),
        _table(pair, {each.sequence for each in shown}),
        *(closeup(contents, pair, each) for each in shown),
        class_="view pair",
        data_view=f"{first} {DASH} {second}",
    )


def _summary(pair: TrackerPair) -> str:
    """Return on how many sequences each tracker is ahead, and the mean difference with its standard error."""
    ahead, behind = (len(each) for each in pair.largest_leads(len(pair.sequences)))
    equal = len(pair.sequences) - ahead - behind
    differences = pair.differences
    counts = f"{pair.names[0]} is ahead on {pluralize(ahead, 'sequence')}, {pair.names[1]} on {behind:,}"
    ties = f"; {equal:,} {'is' if equal == 1 else 'are'} equal" if equal else ""
    error = ""
    if len(differences) > 1:
        error = f", with a standard error of {differences.std(ddof=1) / np.sqrt(len(differences)):.1f} over sequences"
    return f"{counts}{ties}. The mean difference of SR is {signed(float(differences.mean()))} points{error}."


def _chart(contents: Contents, pair: TrackerPair) -> list[Markup]:
    """Return caption, bars and legend; the drawing is stretched, so its labels stand beside it."""
    differences = pair.differences
    low, high, step = axis_range([*differences.tolist(), 0.0])
    count = len(differences)

    def y(value: float) -> float:
        return round(1000 * (high - value) / (high - low), 1)

    zero = y(0)
    width = "h.9" if count <= MAX_SPACED_BARS else "h1"
    bars = [f"M{index} {zero:g}V{y(value):g}{width}V{zero:g}Z" for index, value in enumerate(differences)]
    ahead = "".join(bars[: (differences > 0).sum()])
    behind = "".join(bars[count - (differences < 0).sum() :])
    ticks = [low + step * number for number in range(round((high - low) / step) + 1)]
    first, second = (LineStyle(index) for index in pair.indices)
    drawing = svg_drawing(
        f"SR of {pair.names[0]} minus SR of {pair.names[1]} on {pluralize(count, 'sequence')}, sorted",
        f"pair-{pair.indices[0]}-{pair.indices[1]}",
        element("g", *(element("line", x1=0, x2=count, y1=y(tick), y2=y(tick)) for tick in ticks), class_="grid"),
        element("path", class_=f"bars {first.color}", d=ahead) if ahead else None,
        element("path", class_=f"bars {second.color}", d=behind) if behind else None,
        element("line", class_="zero", x1=0, x2=count, y1=zero, y2=zero),
        element("line", class_="cursor", x1=0, x2=0, y1=0, y2=1000),
        class_="drawing",
        viewBox=f"0 0 {count} 1000",
        preserveAspectRatio="none",
        tabindex=0,
        data_labels=join_labels(each.sequence for each in pair.sequences),
        data_bars=True,
    )
    scale = [element("span", signed(tick).removesuffix(".0"), style=f"top:{y(tick) / 10:g}%") for tick in ticks]
    overall = [contents.trackers[index].scores.overall.SR for index in pair.indices]
    entries = [
        legend_entry(
            name, swatch(style), f"{overall[side]:.1f}", join_values((each.SR[side] for each in pair.sequences), 1)
        )
        for side, (name, style) in enumerate(zip(pair.names, (first, second), strict=True))
    ]
    entries.append(
        legend_entry("difference", join(), signed(overall[0] - overall[1]), " ".join(map(signed, differences)))
    )
    return [
        element("figcaption", f"SR of {pair.names[0]} minus SR of {pair.names[1]}; one bar per sequence"),
        element("div", element("div", *scale, class_="scale", aria_hidden="true"), drawing, class_="stretched"),
        legend("SR on all sequences", entries),
    ]


def _table(pair: TrackerPair, with_closeup: set[str]) -> Markup:
    ahead, behind = pair.largest_leads(TABLE_ROWS)
    rows = [*ahead, *reversed(behind)]
    diverging = any(each.divergence for each in rows)
    columns = [Column("Sequence", number=False), *(Column(name) for name in pair.names)]
    columns.append(Column("Difference", sorted_down=True))
    if diverging:
        columns.append(Column("Diverge at frame"))
    body = [_row(pair, each, diverging=diverging, linked=each.sequence in with_closeup) for each in rows]
    return sortable_table("The largest differences in SR.", columns, body)


def _row(pair: TrackerPair, each: SequencePair, *, diverging: bool, linked: bool) -> Markup:
    name = element("a", each.sequence, href=f"#{closeup_id(pair, each)}") if linked else each.sequence
    cells = [element("td", f"{rate:.1f}") for rate in each.SR]
    cells.append(element("td", signed(each.difference), data_sort=f"{each.difference:.4f}"))
    if diverging:
        frame = None if each.divergence is None else each.divergence.frame
        cells.append(element("td", "never" if frame is None else frame + 1, data_sort="" if frame is None else frame))
    return element("tr", element("th", name, scope="row"), *cells)
