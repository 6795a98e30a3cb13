"""Text and boxes on images, in one style."""

from __future__ import annotations

import cv2
import numpy as np

from mmdistill.reference.data.boxes import Array
from mmdistill.reference.data.sequence import Image

Colour = tuple[int, int, int]

# Okabe and Ito's colours, which colour-blind viewers can tell apart, without those that dark images swallow.
SKY, ORANGE, YELLOW, VERMILION = (86, 180, 233), (230, 159, 0), (240, 228, 66), (213, 94, 0)
GREEN, PURPLE = (0, 158, 115), (204, 121, 167)
WHITE, TEXT, GREY, DARK = (255, 255, 255), (235, 235, 235), (130, 130, 130), (24, 24, 24)

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


def write(image: Image, text: str, origin: tuple[int, int], scale: float, colour: Colour = TEXT) -> None:
    """Write text; ``origin`` is the left end of its baseline."""
    cv2.putText(image, text, origin, _FONT, scale, colour, 1, cv2.LINE_AA)


def draw_box(image: Image, box: Array, colour: Colour) -> None:
    """Draw a box ``x y w h`` with a dark outline, to the fraction of a pixel; one that is not finite is left out."""
    if not np.isfinite(box).all():
        return
    x, y, w, h = box
    corners = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]) - 0.5
    reach = 2 * max(image.shape)
    points = np.rint(corners.clip(-reach, reach) * 2**_SUBPIXEL_BITS).astype(np.int32)
    thickness = max(2, round(image.shape[1] / USUAL_WIDTH))
    for shade, line in ((DARK, thickness + 2), (colour, thickness)):
        cv2.polylines(image, [points], True, shade, line, cv2.LINE_AA, _SUBPIXEL_BITS)
