"""The strip below an annotated frame: what the colours mean on the left, what frame this is on the right."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mmdistill.reference.data.sequence import Image
from mmdistill.reference.drawing.response import heat
from mmdistill.reference.drawing.style import (
    DARK,
    GREEN,
    GREY,
    ORANGE,
    VERMILION,
    Colour,
    text_scale,
    text_size,
    write,
)

LEGEND_SHARE = 0.6  # of the footer's width; the note has the rest
FLAG_COLOURS = {
    "initial": GREEN,
    "normal": GREEN,
    "hard_negative": ORANGE,
    "uncertain": ORANGE,
    "not_found": VERMILION,
}
"""Of the dot before a flag; grey for any other."""


def footer(
    legend: Sequence[tuple[str, Colour | None]], note: str, flag: str | None, width: int, panel_width: int
) -> Image:
    """Return a strip ``(rows, width, 3)``, with as many lines as the legend needs.

    Args:
        legend: names with their colours; None stands for the colours of a heat map.
        note: is written smaller, rather than cut off, where it is long.
        flag: what the tracker says of the frame, before the note.
        width: of the strip, pixels.
        panel_width: of the images above, which says how large text is.
    """
    scale = text_scale(panel_width)
    line, gap = round(50 * scale), round(20 * scale)
    right = round(width * LEGEND_SHARE)
    places: list[tuple[int, int]] = []
    x, top = gap, 0
    for name, colour in legend:
        entry = _mark_width(colour, gap) + round(0.5 * gap) + text_size(name, scale)[0]
        if x > gap and x + entry > right:
            x, top = gap, top + line
        places.append((x, top))
        x += entry + gap

    strip = np.full((top + line, width, 3), DARK, dtype=np.uint8)
    for (name, colour), (x, top) in zip(legend, places, strict=True):
        mark = _mark_width(colour, gap)
        _draw_mark(strip[top : top + line, x : x + mark], colour, max(2, round(5 * scale)))
        write(strip, name, (x + mark + round(0.5 * gap), top + round(0.67 * line)), scale)
    _draw_note(strip[:line, right:], note, flag, scale)
    return strip


def _mark_width(colour: Colour | None, gap: int) -> int:
    return round(1.5 * gap) if colour is not None else 4 * gap


def _draw_mark(place: Image, colour: Colour | None, thickness: int) -> None:
    """Draw a line of the colour, or the heat map's colours from low to high, in the middle of a place."""
    middle, width = place.shape[0] // 2, place.shape[1]
    if colour is not None:
        cv2.line(place, (0, middle), (width, middle), colour, thickness)
    else:
        place[middle - thickness : middle + thickness] = heat(np.linspace(0, 1, width, dtype=np.float32))


def _draw_note(place: Image, note: str, flag: str | None, scale: float) -> None:
    """Write the note so that it ends at the right margin, and before it a dot of the flag's colour."""
    height, width = place.shape[:2]
    gap, radius = round(20 * scale), round(8 * scale)
    dot = 0 if flag is None else 4 * radius
    scale *= min(1.0, (width - 2 * gap - dot) / max(1, text_size(note, scale)[0]))
    left = width - gap - text_size(note, scale)[0]
    write(place, note, (left, round(0.67 * height)), scale)
    if flag is not None:
        colour = FLAG_COLOURS.get(flag, GREY)
        cv2.circle(place, (left - dot + radius, height // 2), radius, colour, cv2.FILLED, cv2.LINE_AA)
