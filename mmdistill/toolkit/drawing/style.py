"""Text and boxes on images, in one style."""

from __future__ import annotations

import cv2
import numpy as np

from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.sequence import Image

Color = tuple[int, int, int]

# Okabe and Ito's colors, which color-blind viewers can tell apart, without those that dark images swallow.
SKY, ORANGE, YELLOW, VERMILION = (86, 180, 233), (230, 159, 0), (240, 228, 66), (213, 94, 0)
GREEN, PURPLE = (0, 158, 115), (204, 121, 167)
WHITE, TEXT, GRAY, DARK = (255, 255, 255), (235, 235, 235), (130, 130, 130), (24, 24, 24)
LOST_GRAY = (190, 190, 190)  # of a box on a video's image; has to show on a thermal one

USUAL_WIDTH = 360  # pixels of a panel for which text and lines have their usual size
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SUBPIXEL_BITS = 4


def text_scale(panel_width: int) -> float:
    """Return the font scale: larger panels get larger text, though not in proportion."""
    return float(0.45 * np.sqrt(panel_width / USUAL_WIDTH))


def text_size(text: str, scale: float) -> tuple[int, int]:
    """Return a text's width and height, pixels."""
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    return width, height


def write(image: Image, text: str, origin: tuple[int, int], scale: float, color: Color = TEXT) -> None:
    """Write text; ``origin`` is the left end of its baseline."""
    cv2.putText(image, text, origin, _FONT, scale, color, 1, cv2.LINE_AA)


def draw_box(image: Image, box: Array, color: Color, *, dashed: bool = False) -> None:
    """Draw a box ``x y w h`` with a dark outline, to the fraction of a pixel; one that is not finite is left out.

    Args:
        image: ``(H, W, 3)``, uint8; drawn on.
        box: ``(4,)`` as ``x y w h``, pixels.
        color: of the line.
        dashed: whether the line has gaps, for a box that says where the target was last seen.
    """
    if not np.isfinite(box).all():
        return
    x, y, w, h = box
    corners = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]) - 0.5
    reach = 2 * max(image.shape)
    corners = corners.clip(-reach, reach)
    thickness = max(2, round(image.shape[1] / USUAL_WIDTH))
    lines = _dashes(corners, 4.0 * thickness) if dashed else [corners]
    points = [np.rint(line * 2**_SUBPIXEL_BITS).astype(np.int32) for line in lines]
    for shade, width in ((DARK, thickness + 2), (color, thickness)):
        cv2.polylines(image, points, not dashed, shade, width, cv2.LINE_AA, _SUBPIXEL_BITS)


def _dashes(corners: Array, length: float) -> list[Array]:
    """Return lines ``(2, 2)`` along the sides of a rectangle ``(4, 2)``, each and the gaps about ``length`` pixels."""
    dashes = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        count = max(1, round(float(np.abs(end - start).sum()) / (2 * length)))
        for place in range(count):
            part = np.array([[place + 0.25], [place + 0.75]]) / count
            dashes.append(start + part * (end - start))
    return dashes
