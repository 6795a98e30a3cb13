"""The target's box in the first frame: from an argument, a file, or drawn with the mouse."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.widgets import RectangleSelector

from mmdistill.toolkit.box_files import read_boxes
from mmdistill.toolkit.boxes import Array, check_initial_box, is_valid
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import FramePair, Image

Selector = Callable[[Image], Array]
"""A function that lets the user draw a box ``(4,)``, ``x y w h`` in pixels, in an RGB image ``(H, W, 3)``."""

TITLE = "Draw a box around the target, then press Enter (Esc: cancel)"
TOOLKITS = ("macosx", "tkagg", "qtagg", "gtk3agg", "wxagg")
"""Window toolkits, tried in this order. Tk comes with most Pythons."""


def initial_box(init: str | None, frame: FramePair, select: Selector | None = None) -> Array:
    """Return the target's box ``(4,)`` in the first frame, ``x y w h`` in pixels.

    Args:
        init: ``x,y,w,h``, or a file whose first line is a box (ground truth, results). None lets the user draw it.
        frame: The first frame.
        select: Lets the user draw the box; by default in a window, with the mouse.

    Raises:
        DataError: The box is not valid in this frame, or no window can be opened.
    """
    height, width = next(image.shape[:2] for image in frame if image is not None)
    if init is not None:
        return check_initial_box(_parse_box(init), width, height, where="--init")
    # Both side by side, because a target may be visible in only one of them.
    drawn = (select or select_with_mouse)(np.concatenate([image for image in frame if image is not None], axis=1))
    if not is_valid(drawn):
        raise DataError("--init: no box was drawn; run again, or give x,y,w,h")
    panel = np.floor((drawn[0] + drawn[2] / 2) / width) * width
    return check_initial_box(drawn - [panel, 0, 0, 0], width, height, where="--init, as drawn")


def _parse_box(init: str) -> Array:
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
    """Show an image in a window of Matplotlib and return the box ``(4,)`` that the user draws; zeros if canceled.

    The headless package of OpenCV, on which this project depends, has no windows.

    Raises:
        DataError: There is no screen, or no window toolkit.
    """
    chooser = BoxChooser(_open_window(), image)
    plt.show(block=True)
    return chooser.box


def _open_window() -> Figure:
    """Return an empty figure in a window of the first available toolkit."""
    for toolkit in TOOLKITS:
        try:
            plt.switch_backend(toolkit)
            return plt.figure(TITLE)
        except Exception:  # each toolkit has its own errors for a missing screen
            continue
    raise DataError(
        "--init: no window can be opened to draw the box in; give x,y,w,h or a file with a box a line. A window needs "
        f"a screen and a toolkit of Matplotlib ({', '.join(TOOLKITS)}); pip install PyQt6 installs one"
    )


class BoxChooser:
    """Lets the user draw a box in a figure: drag, adjust by the handles, Enter to accept, Esc to cancel.

    Args:
        figure: An empty figure of Matplotlib.
        image: An RGB image ``(H, W, 3)``, uint8.
    """

    def __init__(self, figure: Figure, image: Image) -> None:
        self._figure = figure
        axes = figure.add_axes((0.0, 0.0, 1.0, 0.94))
        axes.set_axis_off()
        # Pixel corners are at whole numbers, as in boxes.
        axes.imshow(image, extent=(0, image.shape[1], image.shape[0], 0))
        figure.suptitle(TITLE)
        self._selector = RectangleSelector(axes, self._draw, useblit=False, interactive=True)
        self._drawn = self._accepted = False
        figure.canvas.mpl_connect("key_press_event", self._press)

    @property
    def box(self) -> Array:
        """The box ``(4,)``, ``x y w h`` in pixels; zeros if none was accepted."""
        if not (self._drawn and self._accepted):
            return np.zeros(4)
        left, right, top, bottom = self._selector.extents
        return np.array([left, top, right - left, bottom - top])

    def _draw(self, *_: object) -> None:
        self._drawn = True

    def _press(self, event: object) -> None:
        key = getattr(event, "key", None)
        if key in ("enter", "escape"):
            self._accepted = key == "enter"
            plt.close(self._figure)
