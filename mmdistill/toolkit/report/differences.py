"""The section that compares trackers two by two, sequence by sequence."""

from __future__ import annotations

import numpy as np

from mmdistill.toolkit.report.charts import Look, described, legend, legend_entry, lines, numbers, swatch
from mmdistill.toolkit.report.closeups import look_at, look_id
from mmdistill.toolkit.report.comparisons import LEAD, MOST_PAIRS, SequencePair, TrackerPair, tracker_pairs
from mmdistill.toolkit.report.contents import Contents
from mmdistill.toolkit.report.markup import DASH, Column, Markup, element, join, several, signed, sortable_table
from mmdistill.toolkit.report.overview import scale_of

LISTED = 5
"""Sequences in a pair's table, for each of the two trackers."""


def differences_section(contents: Contents, looks: int) -> Markup | None:
    """Return the section, or None where there is one tracker alone.

    Args:
        contents: of the report.
        looks: how many sequences are shown closely for each of two trackers.
    """
    pairs = tracker_pairs(contents)
    if not pairs:
        return None
    views = [_view(contents, pair, looks) for pair in pairs]
    return element(
        "section",
        element("h2", "Two trackers, sequence by sequence"),
        *(element("p", note, class_="hint") for note in _notes(contents, looks)),
        element("div", *views, class_="views", data_label="Pair"),
        id="pairs",
    )


def _notes(contents: Contents, looks: int) -> list[str]:
    notes = []
    trackers = len(contents.trackers)
    if trackers * (trackers - 1) // 2 > MOST_PAIRS:
        first = contents.trackers[0].name
        notes.append(f"Of {trackers} trackers, {first}, which was given first, is compared with each of the others.")
    if not contents.truths:
        notes.append(
            "Where in a sequence two trackers part is left out: that takes their raw results and the ground truth."
        )
        return notes
    notes.append(
        f"Two trackers part at the frame from which on one of them leads by {LEAD} IoU on average, over any stretch "
        "that starts there."
    )
    if looks and not any(truth.frame for truth in contents.truths.values()):
        notes.append("Frames are left out: there are no images.")
    return notes


def _view(contents: Contents, pair: TrackerPair, looks: int) -> Markup:
    first, second = pair.names
    ahead, behind = pair.furthest(looks if contents.truths else 0)
    closely = [*ahead, *behind]
    return element(
        "div",
        element("h3", f"{first} and {second}"),
        element("p", _summary(pair)),
        element("figure", *_chart(contents, pair), class_="chart wide"),
        _table(pair, {each.sequence for each in closely}),
        *(look_at(contents, pair, each) for each in closely),
        class_="view pair",
        data_view=f"{first} {DASH} {second}",
    )


def _summary(pair: TrackerPair) -> str:
    """Say who is ahead where, and by how much against the spread over sequences."""
    ahead, behind = (len(each) for each in pair.furthest(len(pair.sequences)))
    alike = len(pair.sequences) - ahead - behind
    differences = pair.differences
    counts = f"{pair.names[0]} is ahead on {several(ahead, 'sequence')}, {pair.names[1]} on {behind:,}"
    even = f"; on {alike:,} they are alike" if alike else ""
    spread = ""
    if len(differences) > 1:
        spread = f", standard error {differences.std(ddof=1) / np.sqrt(len(differences)):.1f} over sequences"
    return f"{counts}{even}. The mean difference of SR is {signed(float(differences.mean()))} points{spread}."


def _chart(contents: Contents, pair: TrackerPair) -> list[Markup]:
    """Return caption, bars and legend; the drawing is stretched, so what is written stands beside it."""
    differences = pair.differences
    low, high, step = scale_of([*differences.tolist(), 0.0])
    count = len(differences)

    def down(value: float) -> float:
        return round(1000 * (high - value) / (high - low), 1)

    zero = down(0)
    bar = "h.9" if count <= 60 else "h1"  # many leave no room for gaps
    bars = [f"M{place} {zero:g}V{down(value):g}{bar}V{zero:g}Z" for place, value in enumerate(differences)]
    ahead = "".join(bars[: (differences > 0).sum()])
    behind = "".join(bars[count - (differences < 0).sum() :])
    ticks = [low + step * number for number in range(round((high - low) / step) + 1)]
    first, second = (Look(place) for place in pair.places)
    identity = f"pair-{pair.places[0]}-{pair.places[1]}"
    drawing = described(
        f"SR of {pair.names[0]} less that of {pair.names[1]} on {several(count, 'sequence')}, sorted",
        identity,
        element("g", *(element("line", x1=0, x2=count, y1=down(tick), y2=down(tick)) for tick in ticks), class_="grid"),
        element("path", class_=f"bars {first.color}", d=ahead) if ahead else None,
        element("path", class_=f"bars {second.color}", d=behind) if behind else None,
        element("line", class_="zero", x1=0, x2=count, y1=zero, y2=zero),
        element("line", class_="cursor", x1=0, x2=0, y1=0, y2=1000),
        class_="drawing",
        viewBox=f"0 0 {count} 1000",
        preserveAspectRatio="none",
        tabindex=0,
        data_labels=lines(each.sequence for each in pair.sequences),
        data_bars=True,
    )
    names = [element("span", tick_label(tick), style=f"top:{down(tick) / 10:g}%") for tick in ticks]
    overall = [contents.trackers[place].scores.overall.SR for place in pair.places]
    entries = [
        legend_entry(name, swatch(look), f"{overall[side]:.1f}", numbers((each.SR[side] for each in pair.sequences), 1))
        for side, (name, look) in enumerate(zip(pair.names, (first, second), strict=True))
    ]
    entries.append(
        legend_entry("difference", join(), signed(overall[0] - overall[1]), " ".join(map(signed, differences)))
    )
    return [
        element("figcaption", f"SR of {pair.names[0]} less that of {pair.names[1]}, a bar for each sequence"),
        element("div", element("div", *names, class_="scale", aria_hidden="true"), drawing, class_="stretched"),
        legend("SR of all sequences", entries),
    ]


def _table(pair: TrackerPair, closely: set[str]) -> Markup:
    ahead, behind = pair.furthest(LISTED)
    rows = [*ahead, *reversed(behind)]
    parting = any(each.parting for each in rows)
    columns = [Column("Sequence", number=False), *(Column(name) for name in pair.names)]
    columns.append(Column("Difference", sorted_down=True))
    if parting:
        columns.append(Column("Part at frame"))
    body = [_row(pair, each, parting=parting, linked=each.sequence in closely) for each in rows]
    return sortable_table("SR where they differ most.", columns, body)


def _row(pair: TrackerPair, each: SequencePair, *, parting: bool, linked: bool) -> Markup:
    name = element("a", each.sequence, href=f"#{look_id(pair, each)}") if linked else each.sequence
    cells = [element("td", f"{rate:.1f}") for rate in each.SR]
    cells.append(element("td", signed(each.difference), data_sort=f"{each.difference:.4f}"))
    if parting:
        frame = None if each.parting is None else each.parting.for_good
        cells.append(element("td", "never" if frame is None else frame + 1, data_sort="" if frame is None else frame))
    return element("tr", element("th", name, scope="row"), *cells)


def tick_label(value: float) -> str:
    """Return a whole number with its sign."""
    return signed(value).removesuffix(".0")
