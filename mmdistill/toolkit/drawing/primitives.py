"""Draws text, boxes and response maps on images, in one style."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.sequence import Image

Color = tuple[int, int, int]

# Okabe and Ito's colors, which color-blind viewers can distinguish, without those that are too dark.
SKY, ORANGE, YELLOW, VERMILION = (86, 180, 233), (230, 159, 0), (240, 228, 66), (213, 94, 0)
GREEN, PURPLE = (0, 158, 115), (204, 121, 167)
WHITE, TEXT, GRAY, DARK = (255, 255, 255), (235, 235, 235), (130, 130, 130), (24, 24, 24)
LOST_GRAY = (190, 190, 190)  # for boxes of lost targets; visible on thermal images too

DEFAULT_PANEL_WIDTH = 360  # pixels; text and lines have their default size on a panel of this width
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SUBPIXEL_BITS = 4

TRANSPARENT_SCORE, OPAQUE_SCORE = 0.1, 0.7
"""Scores drawn with no and with full opacity; DiMP reports a loss below 0.25, a clear target scores near 1."""

MAX_OPACITY = 0.6
"""Opacity of the highest scores; the target stays visible."""

_COLORMAP = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1].astype(
    np.float32
)
_CORNER_SHARE = 0.08  # length of a corner mark, of the search area's side


def text_scale(panel_width: int) -> float:
    """Return the font scale, which grows with the square root of the panel's width in pixels."""
    return float(0.45 * np.sqrt(panel_width / DEFAULT_PANEL_WIDTH))


def text_size(text: str, scale: float) -> tuple[int, int]:
    """Return the width and height of a text, pixels."""
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    return width, height


def draw_text(image: Image, text: str, origin: tuple[int, int], scale: float, color: Color = TEXT) -> None:
    """Draw text, in place; ``origin`` is the left end of its baseline."""
    cv2.putText(image, text, origin, _FONT, scale, color, 1, cv2.LINE_AA)


def draw_box(image: Image, box: Array, color: Color, *, dashed: bool = False) -> None:
    """Draw a box with a dark outline, in place, with subpixel accuracy; boxes that are not finite are skipped.

    Args:
        image: ``(H, W, 3)``, uint8, RGB.
        box: ``(4,)`` as ``x y w h``, pixels.
        color: of the line.
        dashed: whether the line has gaps, for the last box of a lost target.
    """
    if not np.isfinite(box).all():
        return
    x, y, w, h = box
    corners = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]) - 0.5
    limit = 2 * max(image.shape)
    corners = corners.clip(-limit, limit)
    thickness = max(2, round(image.shape[1] / DEFAULT_PANEL_WIDTH))
    lines = _dashes(corners, 4.0 * thickness) if dashed else [corners]
    points = [np.rint(line * 2**_SUBPIXEL_BITS).astype(np.int32) for line in lines]
    for shade, width in ((DARK, thickness + 2), (color, thickness)):
        cv2.polylines(image, points, not dashed, shade, width, cv2.LINE_AA, _SUBPIXEL_BITS)


def _dashes(corners: Array, length: float) -> list[Array]:
    """Return lines ``(2, 2)`` of about ``length`` pixels along the sides of a rectangle ``(4, 2)``, with equal gaps."""
    dashes = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        count = max(1, round(float(np.abs(end - start).sum()) / (2 * length)))
        for index in range(count):
            part = np.array([[index + 0.25], [index + 0.75]]) / count
            dashes.append(start + part * (end - start))
    return dashes


class ResponseMap(NamedTuple):
    """The target scores of a tracker over its search area.

    Attributes:
        scores: ``(H', W')``, about 0 to 1.
        area: ``(4,)`` as ``x y w h``, image pixels: the search area. The first row and column of scores lie on its
            upper and left edge, the last ones on its lower and right edge.
    """

    scores: NDArray[np.floating[Any]]
    area: Array


def draw_response(panel: Image, response: ResponseMap, scale: float) -> None:
    """Draw a response map on an image, in place: high scores are opaque; corner marks show the search area.

    Args:
        panel: ``(H, W, 3)``, RGB.
        response: in pixels of the original image.
        scale: panel pixels per image pixel.
    """
    x, y, w, h = response.area * scale
    left, top = max(int(np.floor(x)), 0), max(int(np.floor(y)), 0)
    right, bottom = min(int(np.ceil(x + w)), panel.shape[1]), min(int(np.ceil(y + h)), panel.shape[0])
    if left >= right or top >= bottom:
        return
    rows, columns = response.scores.shape
    across, down = (columns - 1) / w, (rows - 1) / h  # cells per panel pixel
    # Maps pixel centers of the drawn part to cells.
    to_cells = np.array([[across, 0, (left + 0.5 - x) * across], [0, down, (top + 0.5 - y) * down]])
    scores = cv2.warpAffine(
        np.asarray(response.scores, dtype=np.float32),
        to_cells,
        (right - left, bottom - top),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    opacity = MAX_OPACITY * np.clip((scores - TRANSPARENT_SCORE) / (OPAQUE_SCORE - TRANSPARENT_SCORE), 0, 1)[..., None]
    part = panel[top:bottom, left:right]
    part[:] = np.rint(part * (1 - opacity) + heat_colors(scores) * opacity)
    _draw_corners(panel, np.array([x, y, x + w, y + h]))


def heat_colors(scores: NDArray[Any]) -> NDArray[np.float32]:
    """Return the heat map's colors ``(..., 3)``, RGB, of scores ``(...)`` from 0 to 1."""
    colors: NDArray[np.float32] = _COLORMAP[np.clip(np.rint(scores * 255), 0, 255).astype(np.intp)]
    return colors


def _draw_corners(panel: Image, area: Array) -> None:
    """Mark the corners of the visible part of an area ``x1 y1 x2 y2``."""
    bottom_right = panel.shape[1] - 1, panel.shape[0] - 1
    left, top, right, bottom = np.rint(area.clip(0, [*bottom_right, *bottom_right])).astype(int).tolist()
    length = max(4, round(_CORNER_SHARE * (area[2] - area[0])))
    corners = [
        np.array([(x + across, y), (x, y), (x, y + down)])
        for x, across in ((left, length), (right, -length))
        for y, down in ((top, length), (bottom, -length))
    ]
    for color, thickness in ((DARK, 3), (TEXT, 1)):
        cv2.polylines(panel, corners, False, color, thickness)
