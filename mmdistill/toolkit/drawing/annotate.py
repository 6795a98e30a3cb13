"""Frames with boxes, and what the tracker saw, drawn on both modalities.

The strip below an annotated frame: what the colors mean on the left, what frame this is on the right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike

from mmdistill.pair import Pair
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.drawing.response import Response, draw_response, heat
from mmdistill.toolkit.drawing.style import (
    DARK,
    GRAY,
    GREEN,
    LOST_GRAY,
    ORANGE,
    PURPLE,
    SKY,
    USUAL_WIDTH,
    VERMILION,
    WHITE,
    YELLOW,
    Color,
    draw_box,
    text_scale,
    text_size,
    write,
)
from mmdistill.toolkit.sequence import FramePair, Image
from mmdistill.toolkit.video import State

LEGEND_SHARE = 0.6  # of the footer's width; the note has the rest
FLAG_COLORS = {
    "initial": GREEN,
    "normal": GREEN,
    "hard_negative": ORANGE,
    "uncertain": ORANGE,
    "not_found": VERMILION,
}
"""Of the dot before a flag; gray for any other."""


def footer(
    legend: Sequence[tuple[str, Color | None]], note: str, flag: str | None, width: int, panel_width: int
) -> Image:
    """Return a strip ``(rows, width, 3)``, with as many lines as the legend needs.

    Args:
        legend: names with their colors; None stands for the colors of a heat map.
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
    for name, color in legend:
        entry = _mark_width(color, gap) + round(0.5 * gap) + text_size(name, scale)[0]
        if x > gap and x + entry > right:
            x, top = gap, top + line
        places.append((x, top))
        x += entry + gap

    strip = np.full((top + line, width, 3), DARK, dtype=np.uint8)
    for (name, color), (x, top) in zip(legend, places, strict=True):
        mark = _mark_width(color, gap)
        _draw_mark(strip[top : top + line, x : x + mark], color, max(2, round(5 * scale)))
        write(strip, name, (x + mark + round(0.5 * gap), top + round(0.67 * line)), scale)
    _draw_note(strip[:line, right:], note, flag, scale)
    return strip


def _mark_width(color: Color | None, gap: int) -> int:
    return round(1.5 * gap) if color is not None else 4 * gap


def _draw_mark(place: Image, color: Color | None, thickness: int) -> None:
    """Draw a line of the color, or the heat map's colors from low to high, in the middle of a place."""
    middle, width = place.shape[0] // 2, place.shape[1]
    if color is not None:
        cv2.line(place, (0, middle), (width, middle), color, thickness)
    else:
        place[middle - thickness : middle + thickness] = heat(np.linspace(0, 1, width, dtype=np.float32))


def _draw_note(place: Image, note: str, flag: str | None, scale: float) -> None:
    """Write the note so that it ends at the right margin, and before it a dot of the flag's color."""
    height, width = place.shape[:2]
    gap, radius = round(20 * scale), round(8 * scale)
    dot = 0 if flag is None else 4 * radius
    scale *= min(1.0, (width - 2 * gap - dot) / max(1, text_size(note, scale)[0]))
    left = width - gap - text_size(note, scale)[0]
    write(place, note, (left, round(0.67 * height)), scale)
    if flag is not None:
        color = FLAG_COLORS.get(flag, GRAY)
        cv2.circle(place, (left - dot + radius, height // 2), radius, color, cv2.FILLED, cv2.LINE_AA)


COLORS = (SKY, ORANGE, YELLOW, VERMILION, GREEN, PURPLE)
NARROWEST, WIDEST = USUAL_WIDTH, 960  # pixels of a panel: legible, and no slower to write than needed
LOST_FLAGS = frozenset({"not_found", "skipped"})
"""Flags of frames in which the box is the one before: the target was not found, or no image showed anything."""
REASONS: dict[State, str] = {"missing": "not in this frame", "black": "the image is black", "broken": "unreadable"}


class Panel(NamedTuple):
    """One of the images that stand side by side.

    Attributes:
        modality: whose image.
        title: what it is called in its corner.
        response: whether the response is drawn on it.
    """

    modality: Literal["rgb", "tir"]
    title: str
    response: bool = False


RGB_AND_TIR = (Panel("rgb", "RGB"), Panel("tir", "TIR"))


def choose_panels(rgb: bool, tir: bool, response: bool) -> tuple[Panel, ...]:
    """Return the panels for a video's modalities.

    The left one shows the image as it is, the right one the response over it: TIR, or again the only modality there is.
    """
    if rgb and tir:
        return Panel("rgb", "RGB"), Panel("tir", "TIR", response)
    alone = Panel("rgb", "RGB") if rgb else Panel("tir", "TIR")
    return (alone, alone._replace(title="response", response=True)) if response else (alone,)


def annotate(
    frame: FramePair,
    boxes: Mapping[str, ArrayLike],
    *,
    score: float | None = None,
    truth: ArrayLike | None = None,
    caption: str | None = None,
    flag: str | None = None,
    response: Response | None = None,
    states: Pair[State] | None = None,
    panels: Sequence[Panel] = RGB_AND_TIR,
    size: tuple[int, int] | None = None,
) -> Image:
    """Draw boxes on a frame: its images side by side, a legend below.

    Args:
        frame: both images ``(H, W, 3)``; a missing one becomes a dark panel that says so.
        boxes: for each tracker's name its box ``(4,)`` as ``x y w h``, pixels; NaN draws none. Where the flag says that
            the target is lost, boxes are gray and dashed.
        score: the tracker's confidence.
        truth: the true box, drawn in white; NaN draws none.
        caption: what frame this is.
        flag: what the tracker makes of the frame; a dot's color says how sure it is.
        response: what the tracker saw. It is drawn on the panels that are for it, or, where these have no image, on the
            first that has one.
        states: what each modality is: why it is missing.
        panels: what stands side by side.
        size: the images' width and height, pixels; needed where a frame may have no image.

    Returns:
        An image whose size depends on the frame's size, the names and the panels alone, so that a video can be made of
        such images. Images narrower than 360 pixels are enlarged, those wider than 960 reduced.

    Raises:
        DataError: neither modality is there, and no size is given.
    """
    width, height = size or _size(frame)
    scale = min(max(1.0, NARROWEST / width), WIDEST / width)
    # Truth is drawn first: it must not hide a tracker that agrees with it.
    drawn = [] if truth is None else [_Drawn("truth", np.asarray(truth, dtype=np.float64) * scale, WHITE)]
    lost = flag in LOST_FLAGS
    for place, (name, box) in enumerate(boxes.items()):
        color = LOST_GRAY if lost else COLORS[place % len(COLORS)]
        drawn.append(_Drawn(name, np.asarray(box, dtype=np.float64) * scale, color, dashed=lost))

    shown = [panel for panel in panels if getattr(frame, panel.modality) is not None]
    searched = [panel for panel in shown if panel.response] or shown[:1]
    images = []
    for panel in panels:
        image = getattr(frame, panel.modality)
        if image is None:
            reason = "" if states is None else REASONS.get(getattr(states, panel.modality), "")
            images.append(_empty_panel(panel.modality.upper(), reason, round(width * scale), round(height * scale)))
        else:
            over = response if panel in searched else None
            images.append(_panel(image, panel.title, drawn, over, scale, round(width * scale), round(height * scale)))

    legend: list[tuple[str, Color | None]] = [(each.name, each.color) for each in drawn]
    if any(panel.response for panel in panels):
        legend.append(("response", None))
    words = (caption, flag and flag.replace("_", " "), None if score is None else f"score {score:.2f}")
    note = "   ".join(word for word in words if word)
    above = np.concatenate(images, axis=1)
    return np.concatenate([above, footer(legend, note, flag, above.shape[1], images[0].shape[1])])


class _Drawn(NamedTuple):
    """A box to draw, in pixels of its panel."""

    name: str
    box: Array
    color: Color
    dashed: bool = False


def _size(frame: FramePair) -> tuple[int, int]:
    present = next((image for image in frame if image is not None), None)
    if present is None:
        raise DataError("annotate: expected an RGB or a TIR image, got neither")
    return present.shape[1], present.shape[0]


def _panel(
    image: Image, title: str, drawn: Sequence[_Drawn], response: Response | None, scale: float, width: int, height: int
) -> Image:
    """Return ``(height, width, 3)``: the image with the response, the boxes, and its title in the corner."""
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    panel = np.array(cv2.resize(image, (width, height), interpolation=how), dtype=np.uint8)
    if response is not None:
        draw_response(panel, response, scale)
    for each in drawn:
        draw_box(panel, each.box, each.color, dashed=each.dashed)
    letters = text_scale(width)
    text_width, text_height = text_size(title, letters)
    margin = round(10 * letters)
    panel[: text_height + 2 * margin, : text_width + 2 * margin] = DARK
    write(panel, title, (margin, text_height + margin), letters)
    return panel


def _empty_panel(modality: str, reason: str, width: int, height: int) -> Image:
    """Return a dark ``(height, width, 3)`` that says what is not there, and why."""
    panel = np.full((height, width, 3), DARK, dtype=np.uint8)
    letters = text_scale(width)
    text_width, text_height = text_size(f"no {modality}", letters)
    write(panel, f"no {modality}", ((width - text_width) // 2, (height + text_height) // 2), letters)
    if reason:
        small = 0.8 * letters
        below = (height + text_height) // 2 + 2 * text_height
        write(panel, reason, ((width - text_size(reason, small)[0]) // 2, below), small, GRAY)
    return panel
