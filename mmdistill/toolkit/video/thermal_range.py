"""Which thermal values become black and white in a video: a range that does not flicker."""

from __future__ import annotations

import numpy as np

from mmdistill.toolkit.images import Limits, Pixels, is_thermal, percentiles

EVERY = 25
"""Frames from one measurement of the range to the next: a second of most videos."""

MOST_CLIPPED = 0.25
"""Share of a frame's pixels that may lie outside the range."""


class SteadyRange:
    """The range of values that a video's thermal images are stretched by; see ``is_thermal``.

    Stretched by its own percentiles, each frame would be brighter or darker than the one before whenever something hot
    or cold enters. Here the percentiles of every 25th frame are taken. The first 25 frames keep to those of frame 1;
    from then on the range glides, within 25 frames, from one measurement to the next. It depends on the frame's number
    alone, not on what was read before, so that a frame looks the same whenever it is read. A frame that cannot be
    measured (missing, unreadable, or of one value, as while a thermal camera's shutter is closed) is passed over. A
    frame of which more than a quarter lies outside the range, as when the camera calibrates itself anew, has its own.
    """

    def __init__(self) -> None:
        self._measured: dict[int, Limits | None] = {}

    def unmeasured(self, index: int) -> list[int]:
        """Return the frames that must be measured before the range at a frame is known."""
        return [each for each in self._around(index) if each not in self._measured]

    def measure(self, index: int, pixels: Pixels | None) -> None:
        """Take a frame's range, if it is one of those that are measured; None is a frame that cannot be read."""
        if index % EVERY or index in self._measured:
            return
        limits = percentiles(pixels) if pixels is not None and is_thermal(pixels) else None
        self._measured[index] = limits if limits is not None and limits[1] > limits[0] else None

    def at(self, index: int, pixels: Pixels) -> Limits | None:
        """Return the range for a frame's pixels; None if there is none that fits, and they are to have their own."""
        limits = self._limits(index)
        if limits is None:
            return None
        if pixels.dtype.kind == "f":
            pixels = pixels[~np.isnan(pixels)]
        if not pixels.size or np.mean((pixels < limits[0]) | (pixels > limits[1])) > MOST_CLIPPED:
            return None
        return limits

    def _limits(self, index: int) -> Limits | None:
        before, after = (self._measured.get(each) for each in self._around(index))
        if before is None or after is None:
            return before or after
        share = index % EVERY / EVERY
        low = (1 - share) * before[0] + share * after[0]
        # Brightness goes with one over the width, so it changes evenly where the width does by a constant factor.
        width = (before[1] - before[0]) ** (1 - share) * (after[1] - after[0]) ** share
        return low, low + width

    def _around(self, index: int) -> tuple[int, int]:
        """Return the frames between whose ranges a frame's lies: both are past, so that live video has them too."""
        latest = index // EVERY * EVERY
        return max(latest - EVERY, 0), latest
