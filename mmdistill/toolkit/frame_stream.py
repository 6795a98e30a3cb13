"""Writes each tracked frame as a line of JSON, for programs that read them while the run goes on."""

from __future__ import annotations

import errno
import json
import math
from typing import Any, TextIO

from mmdistill.toolkit.tracking_loop import TrackedFrame

BOX_DECIMALS = 3
SCORE_DECIMALS = 4
TIME_DECIMALS = 6

CLOSED_ERRORS = (errno.EPIPE, errno.EINVAL)
"""Errors of writing to a pipe without a reader; Windows reports EINVAL."""


class FrameStream:
    r"""Writes a line of JSON for each frame to a file, and flushes it.

    A reader may close its pipe at any time. Later frames are then not written, and ``closed`` is True.

    Args:
        file: receives the lines, such as ``sys.stdout``.

    Example::

        >>> import io, numpy as np
        >>> from mmdistill.pair import Pair
        >>> from mmdistill.toolkit.tracking_loop import TrackedFrame, as_reading
        >>> reading = as_reading(Pair(np.zeros((60, 80, 3), np.uint8), None))._replace(time=0.04)
        >>> lines = io.StringIO()
        >>> FrameStream(lines).write(TrackedFrame(2, reading, np.array([5.0, 6, 20, 10]), 0.9, "normal", 0.03))
        >>> lines.getvalue()
        '{"frame": 2, "time": 0.04, "box": [5.0, 6.0, 20.0, 10.0], "score": 0.9, "flag": "normal", "seconds": 0.03}\n'
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.closed = False

    def write(self, frame: TrackedFrame) -> None:
        """Write a frame's line.

        Raises:
            OSError: the line can't be written, as on a full disk.
        """
        if self.closed:
            return
        try:
            self._file.write(json.dumps(frame_record(frame), allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            if error.errno not in CLOSED_ERRORS:
                raise
            self.closed = True


def frame_record(frame: TrackedFrame) -> dict[str, Any]:
    """Return a frame's result as JSON values.

    Returns:
        ``frame``: its number, from 1. ``time``: seconds, None if unknown (``Reading.time``). ``box``: ``x y w h`` in
        pixels. ``score`` and ``flag``: the tracker's. ``seconds``: the tracker's time. A number that is not finite is
        None, because JSON has no NaN.
    """
    return {
        "frame": frame.number,
        "time": _rounded(frame.reading.time, TIME_DECIMALS),
        "box": [_rounded(value, BOX_DECIMALS) for value in frame.box],
        "score": _rounded(frame.score, SCORE_DECIMALS),
        "flag": frame.flag,
        "seconds": _rounded(frame.seconds, TIME_DECIMALS),
    }


def _rounded(value: float | None, decimals: int) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), decimals)
