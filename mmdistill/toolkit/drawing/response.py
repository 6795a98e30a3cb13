"""The tracker's response as a heat map over the image it searched."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.drawing.style import DARK, TEXT
from mmdistill.toolkit.sequence import Image

SHOWN_FROM, OPAQUE_FROM = 0.1, 0.7  # scores; DiMP gives up below 0.25, a clear target scores near 1
OPACITY = 0.6  # the target stays visible under the highest score
_COLORS = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1].astype(np.float32)
_CORNER_SHARE = 0.08  # of the search area's side


class Response(NamedTuple):
    """Where the tracker thinks the target may be.

    Attributes:
        scores: ``(H', W')``, about 0 to 1.
        area: ``(4,)`` as ``x y w h``, image pixels: what was searched. The first row and column of scores stand on its
            upper and left edge, the last ones on its lower and right edge.
    """

    scores: NDArray[np.floating[Any]]
    area: Array


def draw_response(panel: Image, response: Response, scale: float) -> None:
    """Lay a response over an image, in place: low scores are clear, high ones opaque; corners mark the search area.

    Args:
        panel: ``(H, W, 3)``, RGB.
        response: in pixels of the image that the panel shows.
        scale: panel pixels per image pixel.
    """
    x, y, w, h = response.area * scale
    left, top = max(int(np.floor(x)), 0), max(int(np.floor(y)), 0)
    right, bottom = min(int(np.ceil(x + w)), panel.shape[1]), min(int(np.ceil(y + h)), panel.shape[0])
    if left >= right or top >= bottom:
        return
    rows, columns = response.scores.shape
    across, down = (columns - 1) / w, (rows - 1) / h  # cells per panel pixel
    # From the middle of a pixel of the part that is drawn to cells.
    to_cells = np.array([[across, 0, (left + 0.5 - x) * across], [0, down, (top + 0.5 - y) * down]])
    scores = cv2.warpAffine(
        np.asarray(response.scores, dtype=np.float32),
        to_cells,
        (right - left, bottom - top),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    opacity = OPACITY * np.clip((scores - SHOWN_FROM) / (OPAQUE_FROM - SHOWN_FROM), 0, 1)[..., None]
    part = panel[top:bottom, left:right]
    part[:] = np.rint(part * (1 - opacity) + heat(scores) * opacity)
    _draw_corners(panel, np.array([x, y, x + w, y + h]))


def heat(scores: NDArray[Any]) -> NDArray[np.float32]:
    """Return colors ``(..., 3)``, RGB, of scores ``(...)`` from 0 to 1."""
    colors: NDArray[np.float32] = _COLORS[np.clip(np.rint(scores * 255), 0, 255).astype(np.intp)]
    return colors


def _draw_corners(panel: Image, area: Array) -> None:
    """Mark the corners of the part of an area ``x1 y1 x2 y2`` that the panel shows."""
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
