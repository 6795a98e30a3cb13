"""Frames with boxes drawn on both modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike

from mmdistill.reference.data.boxes import Array
from mmdistill.reference.data.sequence import FramePair, Image
from mmdistill.reference.errors import DataError

# Okabe and Ito's colours, which colour-blind viewers can tell apart, without those that dark images swallow.
_COLOURS = ((86, 180, 233), (230, 159, 0), (240, 228, 66), (213, 94, 0), (0, 158, 115), (204, 121, 167))
_TRUTH, _TEXT, _DARK = (255, 255, 255), (235, 235, 235), (24, 24, 24)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MIN_WIDTH = 360  # pixels of a panel; smaller images are enlarged, or text would not be legible
_LEGEND_SHARE = 0.6  # of the footer's width; the caption has the rest
_SUBPIXEL_BITS = 4


def annotate(
    frame: FramePair,
    boxes: Mapping[str, ArrayLike],
    *,
    score: float | None = None,
    truth: ArrayLike | None = None,
    caption: str | None = None,
) -> Image:
    """Draw boxes on a frame: RGB on the left, TIR on the right, a legend below.

    Args:
        frame: both images ``(H, W, 3)``; a missing one becomes a dark panel that says so.
        boxes: for each tracker's name its box ``(4,)`` as ``x y w h``, pixels; NaN draws none.
        score: the tracker's confidence.
        truth: the true box, drawn in white; NaN draws none.
        caption: what frame this is.

    Returns:
        An image whose size depends on the frame's size and on the names alone, so that a video can be made of
        such images. Images narrower than 360 pixels are enlarged.

    Raises:
        DataError: neither modality is there.
    """
    present = next((image for image in frame if image is not None), None)
    if present is None:
        raise DataError("annotate: expected an RGB or a TIR image, got neither")
    scale = max(1.0, _MIN_WIDTH / present.shape[1])
    height, width = (round(side * scale) for side in present.shape[:2])
    # Truth is drawn first: it must not hide a tracker that agrees with it.
    drawn = [] if truth is None else [_Drawn("truth", np.asarray(truth, dtype=np.float64) * scale, _TRUTH)]
    for place, (name, box) in enumerate(boxes.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        drawn.append(_Drawn(name, np.asarray(box, dtype=np.float64) * scale, colour))
    panels = [
        _panel(image, modality, drawn, width, height) for image, modality in zip(frame, ("RGB", "TIR"), strict=True)
    ]
    confidence = None if score is None else f"score {score:.2f}"
    note = "  ".join(part for part in (caption, confidence) if part)
    return np.concatenate([np.concatenate(panels, axis=1), _footer(drawn, note, 2 * width)])


class _Drawn(NamedTuple):
    """A box to draw, in pixels of its panel."""

    name: str
    box: Array
    colour: tuple[int, int, int]


def _text_scale(panel_width: int) -> float:
    """Return the font scale: larger panels get larger text, though not in proportion."""
    return float(0.45 * np.sqrt(panel_width / _MIN_WIDTH))


def _text_size(text: str, scale: float) -> tuple[int, int]:
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    return width, height


def _write(image: Image, text: str, origin: tuple[int, int], scale: float) -> None:
    """Write text on a dark ground; ``origin`` is the left end of its baseline."""
    cv2.putText(image, text, origin, _FONT, scale, _TEXT, 1, cv2.LINE_AA)


def _panel(image: Image | None, modality: str, drawn: list[_Drawn], width: int, height: int) -> Image:
    """Return one side ``(height, width, 3)``: the image with its boxes and its modality in the corner."""
    scale = _text_scale(width)
    if image is None:
        panel = np.full((height, width, 3), _DARK, dtype=np.uint8)
        text_width, text_height = _text_size(f"no {modality}", scale)
        _write(panel, f"no {modality}", ((width - text_width) // 2, (height + text_height) // 2), scale)
        return panel
    panel = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    for each in drawn:
        _draw_box(panel, each)
    text_width, text_height = _text_size(modality, scale)
    margin = round(10 * scale)
    panel[: text_height + 2 * margin, : text_width + 2 * margin] = _DARK
    _write(panel, modality, (margin, text_height + margin), scale)
    return panel


def _draw_box(panel: Image, drawn: _Drawn) -> None:
    """Draw a box with a dark outline, to the fraction of a pixel."""
    if not np.isfinite(drawn.box).all():
        return
    x, y, w, h = drawn.box
    corners = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]) - 0.5
    reach = 2 * max(panel.shape)
    points = np.rint(corners.clip(-reach, reach) * 2**_SUBPIXEL_BITS).astype(np.int32)
    thickness = max(2, round(panel.shape[1] / _MIN_WIDTH))
    for colour, line in ((_DARK, thickness + 2), (drawn.colour, thickness)):
        cv2.polylines(panel, [points], True, colour, line, cv2.LINE_AA, _SUBPIXEL_BITS)


def _footer(legend: list[_Drawn], note: str, width: int) -> Image:
    """Return a strip ``(rows, width, 3)``: the legend on the left in as many lines as it needs, the note right."""
    scale = _text_scale(width // 2)
    line, gap = round(50 * scale), round(20 * scale)
    right = round(width * _LEGEND_SHARE)
    places: list[tuple[int, int]] = []
    x, top = gap, 0
    for each in legend:
        entry = 2 * gap + _text_size(each.name, scale)[0]
        if x > gap and x + entry > right:
            x, top = gap, top + line
        places.append((x, top))
        x += entry + gap

    strip = np.full((top + line, width, 3), _DARK, dtype=np.uint8)
    for each, (x, top) in zip(legend, places, strict=True):
        middle = top + line // 2
        cv2.line(strip, (x, middle), (x + round(1.5 * gap), middle), each.colour, max(2, round(5 * scale)))
        _write(strip, each.name, (x + 2 * gap, top + round(0.67 * line)), scale)
    # A long note is written smaller rather than cut off.
    space = width - right - 2 * gap
    note_scale = scale * min(1.0, space / max(1, _text_size(note, scale)[0]))
    _write(strip, note, (width - gap - _text_size(note, note_scale)[0], round(0.67 * line)), note_scale)
    return strip
