"""Charts as inline SVG: a chart's data travel with it, so that a pointer or the arrow keys can read values off.

The script finds in ``data-labels`` what stands at each place along the horizontal axis, a line each, and in every
legend entry's ``data-values`` the tracker's value there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mmdistill.reference.report.markup import Markup, element, join


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
