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

CLOSEST = 0.4
"""The smallest part of an image that is shown, of its sides."""


def draw_frame(frame: FramePair, truths: Sequence[Array], boxes: Sequence[tuple[Array, Colour]]) -> Image:
    """Return what matters of a frame's images, RGB above TIR, with the trackers' boxes and the true one in white.

    Args:
        frame: images of any size, at least one.
        truths: one box ``(4,)`` for both images, or one for RGB and one for TIR.
        boxes: ``(4,)`` with the colours; the first is drawn above the others, below the truth.
    """
    drawn = []
    for image, truth in zip(frame, (truths[0], truths[-1]), strict=True):
        if image is None:
            continue
        x, y, w, h = region(image.shape[1], image.shape[0], [truth, *(box for box, _ in boxes)])
        size = WIDTH, max(1, round(WIDTH * image.shape[0] / image.shape[1]))  # the same for any region
        scale = np.array([size[0] / w, size[1] / h] * 2)
        how = cv2.INTER_AREA if scale[0] < 1 else cv2.INTER_CUBIC
        small = np.array(cv2.resize(image[y : y + h, x : x + w], size, interpolation=how), dtype=np.uint8)
        for box, colour in (*reversed(boxes), (truth, WHITE)):
            draw_box(small, (box - (x, y, 0, 0)) * scale, colour)
        drawn.append(small)
    return np.concatenate(drawn)


def region(width: int, height: int, boxes: Sequence[Array]) -> tuple[int, int, int, int]:
    """Return what part of an image is shown, ``x y w h``: the boxes with as much again around them.

    It has the image's shape, is at least ``CLOSEST`` of its size, and no more than all of it.
    """
    seen = [box for box in boxes if np.isfinite(box).all()]
    if not seen:
        return 0, 0, width, height
    size = np.array([width, height])
    low = np.min([box[:2] for box in seen], axis=0).clip(0, size)
    high = np.max([box[:2] + box[2:] for box in seen], axis=0).clip(0, size)
    share = float(np.clip(2 * ((high - low) / size).max(), CLOSEST, 1))
    w, h = (max(1, round(share * side)) for side in (width, height))
    x, y = np.rint(((low + high) / 2 - (w / 2, h / 2)).clip(0, (width - w, height - h))).astype(int)
    return int(x), int(y), w, h


def data_uri(image: Image) -> str:
    """Return an image ``(H, W, 3)``, RGB, as the address of a JPEG that needs no file."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
