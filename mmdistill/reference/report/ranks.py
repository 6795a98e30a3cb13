"""Which of several figures are the best and which the second, as they are printed."""

from __future__ import annotations

from collections.abc import Sequence

from mmdistill.reference.report.markup import Markup, element
from mmdistill.reference.report.words import DASH


def figure_cells(values: Sequence[float | None], *, decimals: int = 1) -> list[Markup]:
    """Return a table cell for each of some figures that compete: the best is bold, the second underlined.

    Figures that are printed alike rank alike, and a single one has no rank. None is a dash.
    """
    printed = [None if value is None else f"{value:.{decimals}f}" for value in values]
    ranked = sorted({float(each) for each in printed if each is not None}, reverse=True)
    competing = sum(each is not None for each in printed) > 1
    best, second = (*(ranked if competing else []), None, None)[:2]
    cells = []
    for each in printed:
        value = None if each is None else float(each)
        rank = None if value is None else {best: "best", second: "second"}.get(value)
        note = None if rank is None else element("span", f" ({rank})", class_="unseen")
        cells.append(element("td", DASH if each is None else each, note, class_=rank or None, data_sort=each or ""))
    return cells
