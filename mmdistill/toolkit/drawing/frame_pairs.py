"""Draws frame pairs side by side, with boxes, response map and legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike

from mmdistill.pair import Pair
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.drawing.primitives import (
    DARK,
    DEFAULT_PANEL_WIDTH,
    GRAY,
    GREEN,
    LOST_GRAY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    WHITE,
    YELLOW,
    Color,
    ResponseMap,
    draw_box,
    draw_response,
    draw_text,
    heat_colors,
    text_scale,
    text_size,
)
from mmdistill.toolkit.sequence import FramePair, Image
from mmdistill.toolkit.video import State

TRACKER_COLORS = (SKY, ORANGE, YELLOW, VERMILION, GREEN, PURPLE)

FLAG_COLORS = {
    "initial": GREEN,
    "normal": GREEN,
    "hard_negative": ORANGE,
    "uncertain": ORANGE,
    "not_found": VERMILION,
}
"""Colors of the dot before a flag; gray for any other flag."""

LOST_FLAGS = frozenset({"not_found", "skipped"})
"""Flags of frames that repeat the last box: the target was not found, or there was no image."""

STATE_TEXTS: dict[State, str] = {
    "missing": "not in this frame",
    "black": "the image is black",
    "broken": "unreadable",
    "uncovered": "doesn't cover the target",
}

MIN_PANEL_WIDTH, MAX_PANEL_WIDTH = DEFAULT_PANEL_WIDTH, 960
"""Pixels: wide enough to be legible, narrow enough to be written fast."""

LEGEND_SHARE = 0.6
"""Share of the footer's width for the legend; the note has the rest."""


class Panel(NamedTuple):
    """One of the images drawn side by side.

    Attributes:
        modality: the modality of the image.
        title: the text in the corner.
        response: whether the response map is drawn on it.
    """

    modality: Literal["rgb", "tir"]
    title: str
    response: bool = False


RGB_AND_TIR = (Panel("rgb", "RGB"), Panel("tir", "TIR"))


def choose_panels(rgb: bool, tir: bool, response: bool) -> tuple[Panel, ...]:
    """Return the panels for the modalities of a video.

    The left panel shows the plain image, the right one the response map: on TIR, or on the only modality.

    Args:
        rgb: whether the video has RGB.
        tir: whether the video has TIR.
        response: whether to draw the response map.
    """
    if rgb and tir:
        return Panel("rgb", "RGB"), Panel("tir", "TIR", response)
    alone = Panel("rgb", "RGB") if rgb else Panel("tir", "TIR")
    return (alone, alone._replace(title="response", response=True)) if response else (alone,)


def draw_frame_pair(
    frame: FramePair,
    boxes: Mapping[str, ArrayLike],
    *,
    score: float | None = None,
    truth: ArrayLike | None = None,
    caption: str | None = None,
    flag: str | None = None,
    response: ResponseMap | None = None,
    states: Pair[State] | None = None,
    panels: Sequence[Panel] = RGB_AND_TIR,
    size: tuple[int, int] | None = None,
) -> Image:
    """Draw a frame pair: both images side by side with boxes, and a legend below.

    Args:
        frame: both images ``(H, W, 3)``; a missing one becomes a dark panel with a text.
        boxes: the box ``(4,)`` of each tracker by name, ``x y w h`` in pixels; NaN is not drawn. Boxes of lost targets
            are gray and dashed.
        score: the tracker's confidence.
        truth: the ground-truth box ``(4,)``, drawn in white; NaN is not drawn.
        caption: a text below, such as the frame's number.
        flag: the tracker's flag of the frame, shown with a colored dot.
        response: the response map. It is drawn on its panels; if these have no image, on the first panel with one.
        states: the state of each modality, shown on panels without an image.
        panels: the images to draw side by side.
        size: width and height of the images, pixels; required if a frame may have no image.

    Returns:
        An image ``(rows, columns, 3)``, RGB. Its size depends on the frame's size, the names and the panels only, so
        frames form a video. Images narrower than 360 pixels are enlarged, images wider than 960 are reduced.

    Raises:
        DataError: both images are missing and ``size`` is not given.
    """
    width, height = size or _size(frame)
    scale = min(max(1.0, MIN_PANEL_WIDTH / width), MAX_PANEL_WIDTH / width)
    # The ground truth is drawn first, so that it does not hide an equal box.
    drawn = [] if truth is None else [_LabeledBox("truth", np.asarray(truth, dtype=np.float64) * scale, WHITE)]
    lost = flag in LOST_FLAGS
    for index, (name, box) in enumerate(boxes.items()):
        color = LOST_GRAY if lost else TRACKER_COLORS[index % len(TRACKER_COLORS)]
        drawn.append(_LabeledBox(name, np.asarray(box, dtype=np.float64) * scale, color, dashed=lost))

    with_image = [panel for panel in panels if getattr(frame, panel.modality) is not None]
    with_response = [panel for panel in with_image if panel.response] or with_image[:1]
    images = []
    for panel in panels:
        image = getattr(frame, panel.modality)
        if image is None:
            reason = "" if states is None else STATE_TEXTS.get(getattr(states, panel.modality), "")
            images.append(_empty_panel(panel.modality.upper(), reason, round(width * scale), round(height * scale)))
        else:
            drawn_response = response if panel in with_response else None
            images.append(
                _panel(image, panel.title, drawn, drawn_response, scale, round(width * scale), round(height * scale))
            )

    legend: list[tuple[str, Color | None]] = [(each.name, each.color) for each in drawn]
    if any(panel.response for panel in panels):
        legend.append(("response", None))
    texts = (caption, flag and flag.replace("_", " "), None if score is None else f"score {score:.2f}")
    note = "   ".join(text for text in texts if text)
    images_row = np.concatenate(images, axis=1)
    return np.concatenate([images_row, _draw_footer(legend, note, flag, images_row.shape[1], images[0].shape[1])])


class _LabeledBox(NamedTuple):
    """A box to draw, in pixels of its panel."""

    name: str
    box: Array
    color: Color
    dashed: bool = False


def _size(frame: FramePair) -> tuple[int, int]:
    present = next((image for image in frame if image is not None), None)
    if present is None:
        raise DataError("draw_frame_pair: expected an RGB or a TIR image, got neither")
    return present.shape[1], present.shape[0]


def _panel(
    image: Image,
    title: str,
    drawn: Sequence[_LabeledBox],
    response: ResponseMap | None,
    scale: float,
    width: int,
    height: int,
) -> Image:
    """Return the image ``(height, width, 3)`` with response map, boxes and title."""
    interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    panel = np.array(cv2.resize(image, (width, height), interpolation=interpolation), dtype=np.uint8)
    if response is not None:
        draw_response(panel, response, scale)
    for each in drawn:
        draw_box(panel, each.box, each.color, dashed=each.dashed)
    font_scale = text_scale(width)
    text_width, text_height = text_size(title, font_scale)
    margin = round(10 * font_scale)
    panel[: text_height + 2 * margin, : text_width + 2 * margin] = DARK
    draw_text(panel, title, (margin, text_height + margin), font_scale)
    return panel


def _empty_panel(modality: str, reason: str, width: int, height: int) -> Image:
    """Return a dark panel ``(height, width, 3)`` that names the missing modality and the reason."""
    panel = np.full((height, width, 3), DARK, dtype=np.uint8)
    font_scale = text_scale(width)
    text_width, text_height = text_size(f"no {modality}", font_scale)
    draw_text(panel, f"no {modality}", ((width - text_width) // 2, (height + text_height) // 2), font_scale)
    if reason:
        small = 0.8 * font_scale
        below = (height + text_height) // 2 + 2 * text_height
        draw_text(panel, reason, ((width - text_size(reason, small)[0]) // 2, below), small, GRAY)
    return panel


def _draw_footer(
    legend: Sequence[tuple[str, Color | None]], note: str, flag: str | None, width: int, panel_width: int
) -> Image:
    """Return a footer ``(rows, width, 3)``, RGB, with as many lines as the legend needs.

    Args:
        legend: names with their colors; None stands for the colors of the response map.
        note: a text on the right; a long one is written smaller.
        flag: the tracker's flag of the frame, drawn as a dot before the note.
        width: of the footer, pixels.
        panel_width: of one image above, pixels; it decides the size of text.
    """
    scale = text_scale(panel_width)
    line, gap = round(50 * scale), round(20 * scale)
    right = round(width * LEGEND_SHARE)
    positions: list[tuple[int, int]] = []
    x, top = gap, 0
    for name, color in legend:
        entry = _mark_width(color, gap) + round(0.5 * gap) + text_size(name, scale)[0]
        if x > gap and x + entry > right:
            x, top = gap, top + line
        positions.append((x, top))
        x += entry + gap

    footer = np.full((top + line, width, 3), DARK, dtype=np.uint8)
    for (name, color), (x, top) in zip(legend, positions, strict=True):
        mark = _mark_width(color, gap)
        _draw_mark(footer[top : top + line, x : x + mark], color, max(2, round(5 * scale)))
        draw_text(footer, name, (x + mark + round(0.5 * gap), top + round(0.67 * line)), scale)
    _draw_note(footer[:line, right:], note, flag, scale)
    return footer


def _mark_width(color: Color | None, gap: int) -> int:
    return round(1.5 * gap) if color is not None else 4 * gap


def _draw_mark(area: Image, color: Color | None, thickness: int) -> None:
    """Draw a line in the middle of an area: of the color, or of the heat map's colors from low to high."""
    middle, width = area.shape[0] // 2, area.shape[1]
    if color is not None:
        cv2.line(area, (0, middle), (width, middle), color, thickness)
    else:
        area[middle - thickness : middle + thickness] = heat_colors(np.linspace(0, 1, width, dtype=np.float32))


def _draw_note(area: Image, note: str, flag: str | None, scale: float) -> None:
    """Write the note, aligned right, and a dot in the flag's color before it."""
    height, width = area.shape[:2]
    gap, radius = round(20 * scale), round(8 * scale)
    dot = 0 if flag is None else 4 * radius
    scale *= min(1.0, (width - 2 * gap - dot) / max(1, text_size(note, scale)[0]))
    left = width - gap - text_size(note, scale)[0]
    draw_text(area, note, (left, round(0.67 * height)), scale)
    if flag is not None:
        color = FLAG_COLORS.get(flag, GRAY)
        cv2.circle(area, (left - dot + radius, height // 2), radius, color, cv2.FILLED, cv2.LINE_AA)
