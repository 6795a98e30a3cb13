"""Charts as inline SVG: a chart's data travel with it, so that a pointer or the arrow keys can read values off.

The script finds in ``data-labels`` what stands at each place along the horizontal axis, a line each, and in every
legend entry's ``data-values`` the tracker's value there.

How trackers look: a color on light and on dark ground, a dash and a mark each, the same everywhere in a report.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mmdistill.toolkit.report.markup import Markup, element, join


@dataclass(frozen=True)
class Frame:
    """The rectangle that data are drawn in, and the ranges of its axes; drawing units are about a pixel.

    Attributes:
        width: of the drawing.
        height: of the drawing.
        left, right, top, bottom: the margins around the rectangle.
        x_range: values at its left and right side.
        y_range: values at its lower and upper side.
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
        """Return where a value lies along the horizontal axis."""
        low, high = self.x_range
        return round(self.left + (value - low) / (high - low) * (self.width - self.left - self.right), 2)

    def y(self, value: float) -> float:
        """Return where a value lies along the vertical axis, which grows downwards."""
        low, high = self.y_range
        return round(
            self.height - self.bottom - (value - low) / (high - low) * (self.height - self.top - self.bottom), 2
        )

    def points(self, xs: ArrayLike, ys: ArrayLike) -> str:
        """Return the ``points`` of a polyline through values."""
        pairs = zip(np.asarray(xs, dtype=float).tolist(), np.asarray(ys, dtype=float).tolist(), strict=True)
        return " ".join(f"{self.x(x):g},{self.y(y):g}" for x, y in pairs)


def numbers(values: Iterable[float], decimals: int) -> str:
    """Return values as a data attribute holds them."""
    return " ".join(f"{value:.{decimals}f}" for value in values)


def lines(labels: Iterable[object]) -> str:
    """Return labels as a data attribute holds them, a line each."""
    return "\n".join(" ".join(str(label).split()) for label in labels)


def legend(head: str, entries: Iterable[Markup]) -> Markup:
    """Return a chart's legend: what the values are, then an entry for each tracker."""
    return join(
        element("p", element("span", head, class_="at", data_figure=head), class_="legend-head"),
        element("ul", *entries, class_="legend"),
        element("output", class_="unseen"),  # what the arrow keys come to is read out
    )


def legend_entry(name: object, mark: Markup, figure: str, values: str, **attributes: object) -> Markup:
    """Return a legend's entry: a mark, a name, and a figure that gives way to the values while they are read off."""
    shown = element("span", figure, class_="value", data_values=values, data_figure=figure)
    return element("li", mark, element("span", name, class_="name"), shown, **attributes)


def described(title: str, identity: str, *children: object, **attributes: object) -> Markup:
    """Return an SVG drawing with a title that is read out."""
    head = element("title", title, id=f"{identity}-title")
    return element("svg", head, *children, role="img", aria_labelledby=f"{identity}-title", **attributes)


LIGHT = ("#094E9F", "#DB6410", "#009A73", "#712654", "#4D4003", "#8A36FA")
"""On white: at least 3:1 against it, far apart from each other for color-blind readers too."""

DARK = ("#8FC3F0", "#FA4508", "#31FEB8", "#E2519C", "#FEDA72", "#B561FF")
"""The same hues on a dark ground, and on images."""

LIGHT_GROUND, DARK_GROUND = "#ffffff", "#14171c"

DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2")

MARKS = (
    "M-4 0A4 4 0 1 1 4 0A4 4 0 1 1 -4 0Z",  # circle
    "M-3.6 -3.6H3.6V3.6H-3.6Z",  # square
    "M0 -4.6L4.4 3.4H-4.4Z",  # triangle
    "M0 -5L5 0L0 5L-5 0Z",  # diamond
    "M-1.5 -4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z",  # cross
    "M0 4.6L4.4 -3.4H-4.4Z",  # triangle upside down
)
"""Outlines around (0, 0), about 9 units wide."""


@dataclass(frozen=True)
class Look:
    """How one tracker looks.

    Attributes:
        place: its number, from 0.
    """

    place: int

    @property
    def color(self) -> str:
        """The CSS class that sets ``--of`` to its color."""
        return f"c{self.place % len(LIGHT)}"

    @property
    def dash(self) -> str:
        """Its ``stroke-dasharray``; another one when the colors come round again."""
        return DASHES[(self.place + self.place // len(LIGHT)) % len(DASHES)]

    @property
    def mark(self) -> str:
        """Its mark's outline, which changes as the dash does."""
        return MARKS[(self.place + self.place // len(LIGHT)) % len(MARKS)]

    @property
    def on_images(self) -> tuple[int, int, int]:
        """Its color on images, RGB."""
        shade = DARK[self.place % len(DARK)]
        return int(shade[1:3], 16), int(shade[3:5], 16), int(shade[5:7], 16)


def swatch(look: Look) -> Markup:
    """Return a piece of a tracker's line with its mark on it, for legends and tables."""
    line = element("line", class_="curve", x1=-14, x2=14, y1=0, y2=0, stroke_dasharray=look.dash or None)
    mark = element("path", class_="mark", d=look.mark)
    return element("svg", line, mark, class_=f"swatch {look.color}", viewBox="-15 -7 30 14", aria_hidden="true")


def color_rules() -> str:
    """Return the CSS that gives every color class its color."""
    pairs = enumerate(zip(LIGHT, DARK, strict=True))
    return "".join(f".c{place}{{--of:light-dark({light},{dark})}}" for place, (light, dark) in pairs)
