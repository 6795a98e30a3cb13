"""Estimates the delay between two video cameras from how much the picture changes over time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np

from mmdistill.toolkit.alignment.alignment import Array
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import Image

MAX_DELAY = 2.0
"""Largest delay that is searched, seconds."""

MIN_SECONDS = 4.0
"""Smallest common duration of both recordings, seconds."""

MIN_CORRELATION = 0.5
"""Smallest correlation of both signals at the delay."""

MIN_SIGNIFICANCE = 5.0
"""Smallest correlation after Fisher's transform, relative to the standard deviation that unrelated signals would give.

It is large because many delays are compared. Slow motion gives few independent values, so it needs a longer video.
"""

MIN_LEAD = 0.15
"""Smallest lead of the correlation over that of any other delay that is not beside it."""

NEIGHBORHOOD = 0.25
"""Delays within this distance belong to one peak, seconds; at least three steps."""

SMALL_SIZE = 64, 48
"""Size at which images are compared, pixels."""

TREND = 1.0
"""Standard deviation of the slow trend that is removed from a signal, seconds."""

HINT = "try a part of the video with sudden motion that both cameras see, or give the delay with --delay SECONDS"


class Motion(NamedTuple):
    """How much a picture changes over time.

    Attributes:
        times: middle between two frames, ``(T,)``, seconds, ascending.
        energy: mean change of the contrast-normalized picture per second, ``(T,)``.
    """

    times: Array
    energy: Array


class Delay(NamedTuple):
    """A delay.

    Attributes:
        seconds: by which TIR shows an event later than RGB.
        correlation: of both signals at this delay.
        lead: by which the correlation exceeds that of any other delay.
        significance: the correlation after Fisher's transform, relative to the deviation of unrelated signals.
    """

    seconds: float
    correlation: float
    lead: float
    significance: float

    @property
    def sure(self) -> bool:
        """Whether correlation, lead and significance are large enough."""
        return self.correlation >= MIN_CORRELATION and self.lead >= MIN_LEAD and self.significance >= MIN_SIGNIFICANCE


def measure_motion(times: Array, images: Iterable[Image | None]) -> Motion:
    """Return the motion of a recording.

    Args:
        times: time of each frame ``(T,)``, seconds.
        images: the frames in order; None for a missing one.
    """
    last: tuple[float, Array] | None = None
    middles, energies = [], []
    for time, image in zip(times, images, strict=False):
        if image is None:
            continue
        small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), SMALL_SIZE, interpolation=cv2.INTER_AREA)
        gray = cv2.GaussianBlur(small.astype(np.float64), (0, 0), 1.0)
        # Automatic gain changes brightness and contrast; motion does not.
        gray = (gray - gray.mean()) / max(float(gray.std()), 1.0)
        if last is not None and time > last[0]:
            middles.append((time + last[0]) / 2)
            energies.append(float(np.abs(gray - last[1]).mean()) / (time - last[0]))
        last = float(time), np.asarray(gray)
    return Motion(np.array(middles), np.array(energies))


def estimate_delay(rgb: Motion, tir: Motion, limit: float = MAX_DELAY) -> Delay:
    """Return the most likely delay; ``Delay.sure`` tells whether to use it.

    Args:
        rgb: motion of RGB.
        tir: motion of TIR.
        limit: largest delay, seconds.

    Raises:
        DataError: a recording is too short, or nothing moves in it.
    """
    for name, motion in (("RGB", rgb), ("TIR", tir)):
        if len(motion.times) < 8 or np.ptp(motion.times) < MIN_SECONDS:
            raise DataError(f"align: expected at least {MIN_SECONDS:g} seconds of {name} to find a delay; {HINT}")
        if motion.energy.std() <= 1e-3 * max(float(motion.energy.mean()), 1e-9):
            raise DataError(f"align: expected motion that changes in {name} to find a delay; {HINT}")
    step = min(float(np.median(np.diff(each.times))) for each in (rgb, tir)) / 4
    first, second = (_resample(each, step) for each in (rgb, tir))
    count = int(limit / step) + 1
    delays = step * np.arange(-count, count + 1)
    correlations = np.array([_correlation(first, second, delay, step) for delay in delays])
    best = int(correlations.argmax())
    beside = np.abs(delays - delays[best]) <= max(NEIGHBORHOOD, 3 * step)
    others = correlations[~beside].max(initial=-1.0)
    seconds = delays[best] + step * _vertex(correlations, best)
    deviation = _chance_deviation(first, second, float(delays[best]), step)
    return Delay(
        float(seconds),
        float(correlations[best]),
        float(correlations[best] - others),
        math.atanh(min(float(correlations[best]), 0.999)) / deviation,
    )


def _resample(motion: Motion, step: float) -> Motion:
    """Return a motion at even times, as ranks without slow changes."""
    times = np.arange(motion.times[0], motion.times[-1] + step / 2, step)
    # The logarithm limits single cuts and flashes.
    energy = np.interp(times, motion.times, np.log(motion.energy + 1e-3))
    width = TREND / step
    trend = cv2.GaussianBlur(energy[None], (0, 0), width, borderType=cv2.BORDER_REFLECT)[0]
    return Motion(times, energy - np.asarray(trend))


def _overlap(rgb: Motion, tir: Motion, delay: float) -> float:
    """Return the duration of the overlap after TIR is moved by the delay, seconds."""
    return float(min(rgb.times[-1], tir.times[-1] - delay) - max(rgb.times[0], tir.times[0] - delay))


def _chance_deviation(rgb: Motion, tir: Motion, delay: float, step: float) -> float:
    """Return the standard deviation of the correlation of unrelated signals with these autocorrelations.

    Bartlett's formula: the sum of the products of both autocorrelations, divided by the number of values.
    """
    count = min(len(rgb.times), len(tir.times))
    length = 2 * count
    spectra = [np.abs(np.fft.rfft(each.energy - each.energy.mean(), length)) ** 2 for each in (rgb, tir)]
    first, second = (np.fft.irfft(each)[:count] for each in spectra)
    products = first / max(float(first[0]), 1e-12) * second / max(float(second[0]), 1e-12)
    values = max(_overlap(rgb, tir, delay) / step, 1.0)
    return float(np.sqrt(max(1 + 2 * products[1:].sum(), 1.0) / values))


def _correlation(rgb: Motion, tir: Motion, delay: float, step: float) -> float:
    """Return the correlation of both signals where they overlap after TIR is moved by the delay."""
    start, end = max(rgb.times[0], tir.times[0] - delay), min(rgb.times[-1], tir.times[-1] - delay)
    if end - start < MIN_SECONDS / 2:
        return -1.0
    times = np.arange(start, end, step)
    first = np.interp(times, rgb.times, rgb.energy)
    second = np.interp(times + delay, tir.times, tir.energy)
    deviation = first.std() * second.std()
    return float(((first - first.mean()) * (second - second.mean())).mean() / max(float(deviation), 1e-12))


def _vertex(values: Array, index: int) -> float:
    """Return the position of the parabola's vertex around the highest value, -0.5 to 0.5 steps from it."""
    if not 0 < index < len(values) - 1:
        return 0.0
    before, peak, after = values[index - 1 : index + 2]
    return float(np.clip((after - before) / 2 / max(2 * peak - before - after, 1e-12), -0.5, 0.5))
