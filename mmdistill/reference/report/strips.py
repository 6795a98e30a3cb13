"""Frames with the boxes of two trackers and the truth, small, as images within the report itself."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np

from mmdistill.reference.data.boxes import Array
from mmdistill.reference.data.sequence import FramePair, Image
from mmdistill.reference.drawing.style import WHITE, Colour, draw_box

WIDTH = 320
"""Of a picture, pixels."""

QUALITY = 80
"""Of the JPEG, percent."""


def draw_frame(frame: FramePair, truths: Sequence[Array], boxes: Sequence[tuple[Array, Colour]]) -> Image:
    """Return a frame's images, RGB above TIR, with the true box in white and the trackers' boxes over it.

    Args:
        frame: images of any size, at least one.
        truths: one box ``(4,)`` for both images, or one for RGB and one for TIR.
        boxes: ``(4,)`` with the colours; the first is drawn last, above the others.
    """
    drawn = []
    for image, truth in zip(frame, (truths[0], truths[-1]), strict=True):
        if image is None:
            continue
        scale = WIDTH / image.shape[1]
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        size = WIDTH, max(1, round(image.shape[0] * scale))
        small = np.array(cv2.resize(image, size, interpolation=how), dtype=np.uint8)
        draw_box(small, truth * scale, WHITE)
        for box, colour in reversed(boxes):
            draw_box(small, box * scale, colour)
        drawn.append(small)
    return np.concatenate(drawn)


def data_uri(image: Image) -> str:
    """Return an image ``(H, W, 3)``, RGB, as the address of a JPEG that needs no file."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
