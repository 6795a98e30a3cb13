"""The live window of ``mmdistill track --show``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mmdistill.toolkit.progress import print_to_stderr
from mmdistill.toolkit.sequence import Image

logger = logging.getLogger(__name__)

TITLE = "mmdistill track (q: end the run; close the window: track on without it)"
STOP_KEYS = ("q", "escape")

TIME_SHARE = 0.1
"""The share of the run's time that the window may take: it skips frames."""

EVENT_INTERVAL = 0.1
"""Seconds between two looks for the user's actions; each waits for the screen."""

SMOOTHING = 0.2
"""Weight of the newest time in the mean time of showing a frame, so that one slow frame does not stop the window."""

MAX_WIDTH = 1280
"""Pixels of the window's width at first; the user may enlarge it."""

BACKGROUND = "#181818"


class LiveWindow:
    """Shows the newest frame while a video is tracked; a context manager.

    Between two shown frames, frames are skipped for nine times as long as showing one takes on average. Closing the
    window does not stop the run. A window that fails is closed with a warning.

    Args:
        figure: An empty figure in a window.
        clock: Returns the time in seconds.

    Attributes:
        closed: Whether the window was closed, by the user or because it failed.
        stopped: Whether the user asked to end the run, by q or Esc.
    """

    def __init__(self, figure: Figure, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._figure, self._clock = figure, clock
        self._image: AxesImage | None = None
        self._next_time = self._next_events = -float("inf")
        self._seconds: float | None = None
        self.closed = self.stopped = self._ending = False
        figure.canvas.mpl_connect("close_event", self._close)
        figure.canvas.mpl_connect("key_press_event", self._press)

    def __enter__(self) -> LiveWindow:
        return self

    def update(self, draw: Callable[[], Image]) -> None:
        """Handle the user's actions, and show a frame if it is time for one.

        Args:
            draw: Returns the picture ``(H, W, 3)``, RGB; called only if it is shown.
        """
        if self.closed:
            return
        start, opening = self._clock(), self._image is None
        if start < min(self._next_time, self._next_events):
            return
        self._next_events = start + EVENT_INTERVAL
        picture = draw() if start >= self._next_time else None
        try:
            self._figure.canvas.flush_events()
            if picture is not None and not self.closed:
                self._show(picture)
        except Exception as error:  # each toolkit has its own errors; a long run must not end by its window
            logger.warning("the window failed, and tracking continues without it: %s", error)
            self.closed = True
        if picture is not None and not opening:  # opening takes longer, but happens once
            end = self._clock()
            seconds = end - start
            self._seconds = seconds if self._seconds is None else self._seconds + SMOOTHING * (seconds - self._seconds)
            self._next_time = end + self._seconds * (1 / TIME_SHARE - 1)

    def __exit__(self, _type: type[BaseException] | None, _: BaseException | None, _tb: TracebackType | None) -> None:
        self._ending = True
        plt.close(self._figure)

    def _show(self, picture: Image) -> None:
        if self._image is None:
            self._image = self._first(picture)
        self._image.set_data(picture)
        self._figure.canvas.draw()
        self._figure.canvas.flush_events()

    def _first(self, picture: Image) -> AxesImage:
        """Open the window with the picture's aspect ratio, and return the picture in it."""
        height, width = picture.shape[:2]
        per_inch = self._figure.dpi * max(1.0, width / MAX_WIDTH)
        self._figure.set_facecolor(BACKGROUND)
        self._figure.set_size_inches(width / per_inch, height / per_inch)
        axes = self._figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        image = axes.imshow(picture)
        if self._figure.canvas.manager is not None:
            self._figure.show()
        return image

    def _close(self, _: object) -> None:
        if not (self.closed or self.stopped or self._ending):
            print_to_stderr("the window is closed; tracking continues, Ctrl-C ends it")
        self.closed = True

    def _press(self, event: object) -> None:
        self.stopped = self.stopped or getattr(event, "key", None) in STOP_KEYS
