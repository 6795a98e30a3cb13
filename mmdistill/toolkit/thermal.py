"""Maps thermal values to gray levels: for single images, and without flicker for videos."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
"""An image as stored: ``(H, W)`` or ``(H, W, C)`` in BGR order, with 1, 3 or 4 channels of uint8 or uint16. Thermal
images have one channel, which may also have another integer or a float type."""

Limits = tuple[float, float]
"""The thermal values mapped to black and white."""

MEASURE_INTERVAL = 25
"""Frames from one measurement of the range to the next: one second of most videos."""

MAX_CLIPPED_SHARE = 0.25
"""Maximum share of a frame's pixels outside the video's range."""


def is_thermal(pixels: Pixels) -> bool:
    """Return whether an image has thermal values: one channel, or several equal ones, of another type than uint8."""
    return pixels.dtype != np.uint8 and (pixels.ndim == 2 or bool((pixels == pixels[..., :1]).all()))


def percentiles(pixels: Pixels) -> Limits | None:
    """Return the 1st and the 99th percentile of all finite values; None if there is no finite value."""
    if pixels.dtype.kind == "f":
        pixels = pixels[np.isfinite(pixels)].astype(np.float64)
        if not pixels.size:
            return None
    low, high = np.percentile(pixels, (1, 99))
    return float(low), float(high)


def stretch(values: NDArray[Any], limits: Limits) -> NDArray[np.uint8]:
    """Map thermal values linearly to 0 to 255.

    Args:
        values: any shape; NaN becomes 0.
        limits: the values mapped to 0 and 255; values outside are clipped.
    """
    low, high = limits
    if values.dtype.kind == "f":
        values, width = values.astype(np.float64), max(high - low, float(np.finfo(np.float32).tiny))
    else:
        width = max(high - low, 1)
    with np.errstate(invalid="ignore", over="ignore"):
        stretched = np.clip(np.rint((values - low) * (255 / width)), 0, 255)
    return np.asarray(np.nan_to_num(stretched, copy=False), dtype=np.uint8)


class ThermalRange:
    """The range of thermal values of a video, which changes slowly so that the video does not flicker.

    Percentiles of single frames would jump when a hot or cold object enters. Here every 25th frame is measured. The
    first 25 frames use the range of frame 1; then the range moves, within 25 frames, to the next measurement. It
    depends on the frame's index only, so a frame looks the same in any reading order.

    A frame that can't be measured (missing, unreadable, or of one value, as with a closed shutter) is skipped. A frame
    with more than a quarter of its pixels outside the range, as after a recalibration, gets its own range.
    """

    def __init__(self) -> None:
        self._measured: dict[int, Limits | None] = {}

    def unmeasured(self, index: int) -> list[int]:
        """Return the frames to measure before the range at frame ``index`` is known."""
        return [frame for frame in self._neighbors(index) if frame not in self._measured]

    def measure(self, index: int, pixels: Pixels | None) -> None:
        """Measure a frame, if it is one of every 25; ``pixels`` is None if the frame can't be read."""
        if index % MEASURE_INTERVAL or index in self._measured:
            return
        limits = percentiles(pixels) if pixels is not None and is_thermal(pixels) else None
        self._measured[index] = limits if limits is not None and limits[1] > limits[0] else None

    def at(self, index: int, pixels: Pixels) -> Limits | None:
        """Return the range for the pixels of frame ``index``; None if no range fits and they need their own."""
        limits = self._limits(index)
        if limits is None:
            return None
        if pixels.dtype.kind == "f":
            pixels = pixels[~np.isnan(pixels)]
        if not pixels.size or np.mean((pixels < limits[0]) | (pixels > limits[1])) > MAX_CLIPPED_SHARE:
            return None
        return limits

    def _limits(self, index: int) -> Limits | None:
        before, after = (self._measured.get(frame) for frame in self._neighbors(index))
        if before is None or after is None:
            return before or after
        share = index % MEASURE_INTERVAL / MEASURE_INTERVAL
        low = (1 - share) * before[0] + share * after[0]
        # Brightness is proportional to 1 / width, so it changes evenly if the width changes by a constant factor.
        width = (before[1] - before[0]) ** (1 - share) * (after[1] - after[0]) ** share
        return low, low + width

    def _neighbors(self, index: int) -> tuple[int, int]:
        """Return the two measured frames to interpolate between; both are past, so that live video has them too."""
        latest = index // MEASURE_INTERVAL * MEASURE_INTERVAL
        return max(latest - MEASURE_INTERVAL, 0), latest
