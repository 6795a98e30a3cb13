"""Where the target is in the first frame: said, read from a file, or drawn with the mouse."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from mmdistill.reference.data.box_files import read_boxes
from mmdistill.reference.data.boxes import Array, check_initial
from mmdistill.reference.data.sequence import FramePair, Image
from mmdistill.reference.errors import DataError

Selector = Callable[[Image], Array]
"""Asks someone for a box ``(4,)``, ``x y w h`` in pixels, in an image ``(H, W, 3)``, RGB."""

TITLE = "Draw a box around the target, then press ENTER (c: cancel)"
WIDEST, HIGHEST = 1600, 900  # pixels of the window: fits on most screens


def initial_box(init: str | None, frame: FramePair, select: Selector | None = None) -> Array:
    """Return the target's box ``(4,)`` in the first frame, ``x y w h`` in pixels.

    Args:
        init: ``x,y,w,h``, or a file whose first line is a box (ground truth, results); None asks for it to be drawn.
        frame: the first frame.
        select: who is asked; the mouse if not given.

    Raises:
        DataError: not a box, one that nobody could start from, or nobody can be asked.
    """
    height, width = next(image.shape[:2] for image in frame if image is not None)
    if init is not None:
        return check_initial(_said(init), width, height, where="--init")
    # Both side by side: a target may show in one of them only.
    drawn = (select or select_with_mouse)(np.concatenate([image for image in frame if image is not None], axis=1))
    if drawn[2:].min() <= 0:
        raise DataError("--init: no box was drawn; run again, or give x,y,w,h")
    panel = np.floor((drawn[0] + drawn[2] / 2) / width) * width
    return check_initial(drawn - [panel, 0, 0, 0], width, height, where="--init, as drawn")


def _said(init: str) -> Array:
    if Path(init).is_file():
        return np.asarray(read_boxes(init)[0])
    try:
        numbers = [float(part) for part in re.split(r"\s*,\s*|\s+", init.strip())]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise DataError(
            f"--init: expected four numbers x,y,w,h separated by commas, or a file with a box a line; got {init!r}"
        )
    return np.array(numbers)


def select_with_mouse(image: Image) -> Array:
    """Show an image and return the box ``(4,)`` that is drawn on it; zeros if drawing is cancelled.

    Raises:
        DataError: there is no screen, or OpenCV was built without windows.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise DataError("--init: there is no screen to draw the box on; give x,y,w,h or a file with a box a line")
    scale = min(1.0, WIDEST / image.shape[1], HIGHEST / image.shape[0])
    shown = cv2.cvtColor(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    try:
        cv2.namedWindow(TITLE)
        drawn: Sequence[int] = cv2.selectROI(TITLE, shown, showCrosshair=False)
        cv2.destroyWindow(TITLE)
    except cv2.error as error:
        raise DataError(
            "--init: this OpenCV has no windows to draw the box in; give x,y,w,h or a file with a box a line, "
            "or install opencv-python in place of opencv-python-headless"
        ) from error
    box: Array = np.asarray(drawn, dtype=np.float64) / scale
    return box
