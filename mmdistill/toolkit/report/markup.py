"""HTML and SVG building blocks: escaped text, elements, sortable tables, charts and the trackers' line styles.

A chart holds its values as data attributes, from which the script reads them for the pointer and the arrow keys:
``data-labels`` has a line per position of the horizontal axis, and each legend entry's ``data-values`` has the
tracker's values there.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mmdistill.toolkit.evaluation.formatting import DASH

_VOID_TAGS = frozenset({"img", "input", "meta"})
_SHAPE_TAGS = frozenset({"circle", "line", "path", "polyline", "rect"})
_INVALID_CHARACTERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """Return a value's text escaped for HTML; ``Markup`` is returned unchanged.

    Characters that are invalid in HTML become replacement characters.
    """
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_INVALID_CHARACTERS.sub("\ufffd", str(value))))


def element(tag: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element.

    >>> print(element("a", "Tom & Jerry", href="#cats", class_="link", hidden=False))
    <a href="#cats" class="link">Tom &amp; Jerry</a>

    Args:
        tag: the element's name.
        children: elements, or texts to escape; None is skipped.
        attributes: ``class_`` becomes ``class`` and ``aria_label`` becomes ``aria-label``. True gives an attribute
            without a value; None and False give no attribute.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if tag in _VOID_TAGS:
        return Markup(f"<{tag}{written}>")
    if tag in _SHAPE_TAGS:
        return Markup(f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: object) -> Markup:
    """Return elements and escaped texts in sequence; None is skipped."""
    return Markup("".join(escape(child) for child in children if child is not None))


def _attribute(key: str, value: object) -> str:
    if value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{escape(value)}"'


@dataclass(frozen=True)
class Column:
    """A column of a sortable table.

    Attributes:
        title: text of the column's head.
        tooltip: explanation shown when the pointer is on the head.
        number: whether the cells are numbers: aligned right, and sorted in descending order first.
        sorted_down: whether the rows are sorted by this column, in descending order.
    """

    title: Markup | str
    tooltip: str | None = None
    number: bool = True
    sorted_down: bool = False


def sortable_table(
    caption: Markup | str, columns: Iterable[Column], rows: Iterable[Markup], *, class_: str | None = None
) -> Markup:
    """Return a table that scrolls sideways; the script lets readers sort it.

    Args:
        caption: the table's caption.
        columns: columns from left to right.
        rows: ``tr`` elements; a cell's ``data-sort`` is its sort key.
        class_: further CSS classes.
    """
    heads = [
        element(
            "th",
            column.title,
            scope="col",
            title=column.tooltip,
            class_=None if column.number else "text",
            aria_sort="descending" if column.sorted_down else None,
        )
        for column in columns
    ]
    table = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", element("tr", *heads)),
        element("tbody", *rows),
        class_=f"sortable {class_ or ''}".strip(),
    )
    return element("div", table, class_="scrolling", tabindex=0, role="region", aria_label="Table")


def ranked_cells(values: Sequence[float | None], *, decimals: int = 1) -> list[Markup]:
    """Return table cells in which the best value is bold and the second best is underlined.

    Values that are printed alike rank alike. A single value has no rank. None is a dash.
    """
    printed = [None if value is None else f"{value:.{decimals}f}" for value in values]
    ranked = sorted({float(each) for each in printed if each is not None}, reverse=True)
    competing = sum(each is not None for each in printed) > 1
    best, second = (*(ranked if competing else []), None, None)[:2]
    cells = []
    for each in printed:
        value = None if each is None else float(each)
        rank = None if value is None else {best: "best", second: "second"}.get(value)
        note = None if rank is None else element("span", f" ({rank})", class_="screen-reader")
        cells.append(element("td", DASH if each is None else each, note, class_=rank or None, data_sort=each or ""))
    return cells


@dataclass(frozen=True)
class PlotArea:
    """The rectangle of a chart's data and the ranges of its axes; a drawing unit is about a pixel.

    Attributes:
        width: width of the drawing.
        height: height of the drawing.
        left: left margin.
        right: right margin.
        top: top margin.
        bottom: bottom margin.
        x_range: values at the left and the right edge.
        y_range: values at the lower and the upper edge.
    """

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        """Return a value's horizontal coordinate."""
        low, high = self.x_range
        return round(self.left + (value - low) / (high - low) * (self.width - self.left - self.right), 2)

    def y(self, value: float) -> float:
        """Return a value's vertical coordinate; coordinates grow downwards."""
        low, high = self.y_range
        return round(
            self.height - self.bottom - (value - low) / (high - low) * (self.height - self.top - self.bottom), 2
        )

    def points(self, xs: ArrayLike, ys: ArrayLike) -> str:
        """Return the ``points`` of a polyline through values."""
        pairs = zip(np.asarray(xs, dtype=float).tolist(), np.asarray(ys, dtype=float).tolist(), strict=True)
        return " ".join(f"{self.x(x):g},{self.y(y):g}" for x, y in pairs)


def join_values(values: Iterable[float], decimals: int) -> str:
    """Return a ``data-values`` attribute: numbers separated by spaces, a dash for NaN."""
    return " ".join(f"{value:.{decimals}f}" if np.isfinite(value) else DASH for value in values)


def join_labels(labels: Iterable[object]) -> str:
    """Return a ``data-labels`` attribute: a line per label."""
    return "\n".join(" ".join(str(label).split()) for label in labels)


def legend(head: str, entries: Iterable[Markup]) -> Markup:
    """Return a chart's legend: a head that names the values, and an entry per tracker."""
    return join(
        element("p", element("span", head, class_="at", data_default=head), class_="legend-head"),
        element("ul", *entries, class_="legend"),
        element("output", class_="screen-reader"),  # reads out the position that the arrow keys select
    )


def legend_entry(name: object, mark: Markup, value: str, values: str, **attributes: object) -> Markup:
    """Return a legend entry; the script replaces ``value`` by one of ``values`` while the reader selects a position."""
    shown = element("span", value, class_="value", data_values=values, data_default=value)
    return element("li", mark, element("span", name, class_="name"), shown, **attributes)


def svg_drawing(title: str, identity: str, *children: object, **attributes: object) -> Markup:
    """Return an SVG drawing with a title for screen readers."""
    head = element("title", title, id=f"{identity}-title")
    return element("svg", head, *children, role="img", aria_labelledby=f"{identity}-title", **attributes)


LIGHT_COLORS = ("#094E9F", "#DB6410", "#009A73", "#712654", "#4D4003", "#8A36FA")
"""Trackers' colors on white: contrast of at least 3:1, distinct for color-blind readers too."""

DARK_COLORS = ("#8FC3F0", "#FA4508", "#31FEB8", "#E2519C", "#FEDA72", "#B561FF")
"""The same hues for a dark background and for images."""

LIGHT_BACKGROUND, DARK_BACKGROUND = "#ffffff", "#14171c"

DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2")

MARKERS = (
    "M-4 0A4 4 0 1 1 4 0A4 4 0 1 1 -4 0Z",  # circle
    "M-3.6 -3.6H3.6V3.6H-3.6Z",  # square
    "M0 -4.6L4.4 3.4H-4.4Z",  # triangle
    "M0 -5L5 0L0 5L-5 0Z",  # diamond
    "M-1.5 -4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z",  # cross
    "M0 4.6L4.4 -3.4H-4.4Z",  # triangle upside down
)
"""Outlines around (0, 0), about 9 units wide."""


@dataclass(frozen=True)
class LineStyle:
    """A tracker's color, dashes and marker, the same everywhere in a report.

    Attributes:
        index: the tracker's index.
    """

    index: int

    @property
    def color(self) -> str:
        """The CSS class that sets ``--of`` to the color."""
        return f"c{self.index % len(LIGHT_COLORS)}"

    @property
    def dash(self) -> str:
        """The ``stroke-dasharray``; it changes when the colors repeat."""
        return DASHES[(self.index + self.index // len(LIGHT_COLORS)) % len(DASHES)]

    @property
    def marker(self) -> str:
        """The marker's outline; it changes as the dashes do."""
        return MARKERS[(self.index + self.index // len(LIGHT_COLORS)) % len(MARKERS)]

    @property
    def image_color(self) -> tuple[int, int, int]:
        """The color on images, RGB."""
        color = DARK_COLORS[self.index % len(DARK_COLORS)]
        return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def swatch(style: LineStyle) -> Markup:
    """Return a sample of a tracker's line and marker, for legends and tables."""
    line = element("line", class_="curve", x1=-14, x2=14, y1=0, y2=0, stroke_dasharray=style.dash or None)
    marker = element("path", class_="mark", d=style.marker)
    return element("svg", line, marker, class_=f"swatch {style.color}", viewBox="-15 -7 30 14", aria_hidden="true")


def color_css() -> str:
    """Return the CSS of the color classes."""
    pairs = enumerate(zip(LIGHT_COLORS, DARK_COLORS, strict=True))
    return "".join(f".c{index}{{--of:light-dark({light},{dark})}}" for index, (light, dark) in pairs)
