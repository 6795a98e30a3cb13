"""How trackers look: a colour on light and on dark ground, a dash and a mark each, the same everywhere in a report."""

from __future__ import annotations

from dataclasses import dataclass

from mmdistill.reference.report.markup import Markup, element

LIGHT = ("#094E9F", "#DB6410", "#009A73", "#712654", "#4D4003", "#8A36FA")
"""On white: at least 3:1 against it, far apart from each other for colour-blind readers too."""

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
    def colour(self) -> str:
        """The CSS class that sets ``--of`` to its colour."""
        return f"c{self.place % len(LIGHT)}"

    @property
    def dash(self) -> str:
        """Its ``stroke-dasharray``; another one when the colours come round again."""
        return DASHES[(self.place + self.place // len(LIGHT)) % len(DASHES)]

    @property
    def mark(self) -> str:
        """Its mark's outline, which changes as the dash does."""
        return MARKS[(self.place + self.place // len(LIGHT)) % len(MARKS)]

    @property
    def on_images(self) -> tuple[int, int, int]:
        """Its colour on images, RGB."""
        shade = DARK[self.place % len(DARK)]
        return int(shade[1:3], 16), int(shade[3:5], 16), int(shade[5:7], 16)


def swatch(look: Look) -> Markup:
    """Return a piece of a tracker's line with its mark on it, for legends and tables."""
    line = element("line", class_="curve", x1=-14, x2=14, y1=0, y2=0, stroke_dasharray=look.dash or None)
    mark = element("path", class_="mark", d=look.mark)
    return element("svg", line, mark, class_=f"swatch {look.colour}", viewBox="-15 -7 30 14", aria_hidden="true")


def colour_rules() -> str:
    """Return the CSS that gives every colour class its colour."""
    pairs = enumerate(zip(LIGHT, DARK, strict=True))
    return "".join(f".c{place}{{--of:light-dark({light},{dark})}}" for place, (light, dark) in pairs)
