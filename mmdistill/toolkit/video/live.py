"""Keeps the newest frame of a live source: what cameras and streams share."""

from __future__ import annotations

import threading

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import check_pixels, to_rgb
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.thermal import Pixels, ThermalRange, is_thermal


class LiveSource:
    """The newest frame of a live source.

    A thread reads every frame and keeps only the last one. A slow tracker is therefore at most one frame late.
    16-bit gray frames of thermal cameras keep their bits; see ``ThermalRange``.

    Subclasses open their device, call ``_start``, and read frames in ``_read``.

    Args:
        name: the source's name, for errors.
        timeout: maximum time to wait for a frame, seconds.
    """

    def __init__(self, name: str, timeout: float) -> None:
        self.name = name
        self._timeout = timeout
        self._range = ThermalRange()
        self._condition = threading.Condition()
        self._newest: Pixels | None = None
        self._index = 0
        self._running = True
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._capture_frames, name=name, daemon=True)

    def frame(self) -> Image:
        """Wait for a new frame, and return it as ``(H, W, 3)`` RGB.

        Raises:
            DataError: the source delivers no more frames, or undecoded data.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._newest is not None or not self._running, self._timeout)
            pixels, self._newest = self._newest, None
        if pixels is None:
            reason = self._reason() if self._error is None else str(self._error)
            self.close()  # so that later calls do not wait again
            raise DataError(f"{self.name}: {reason}") from self._error
        _check_frame(pixels, self.name)
        self._range.measure(self._index, pixels)
        limits = self._range.at(self._index, pixels) if is_thermal(pixels) else None
        self._index += 1
        return to_rgb(pixels, limits)

    def close(self) -> None:
        """Release the source."""
        self._running = False
        self._thread.join(self._timeout)

    def _start(self) -> None:
        self._thread.start()

    def _read(self) -> Pixels | None:
        """Wait for the next frame, and return it; None if there are no more."""
        raise NotImplementedError

    def _release(self) -> None:
        """Close the device."""
        raise NotImplementedError

    def _reason(self) -> str:
        """Return why there is no frame."""
        raise NotImplementedError

    def _capture_frames(self) -> None:
        while self._running:
            try:
                pixels = self._read()
            except Exception as error:  # raised by `frame`, not in this thread
                pixels, self._error = None, error
            with self._condition:
                self._running = self._running and pixels is not None
                self._newest = self._newest if pixels is None else pixels
                self._condition.notify()
        self._release()


def _check_frame(pixels: Pixels, name: str) -> None:
    """Refuse arrays that are not images: a row of undecoded bytes, or the two channels of raw YUYV."""
    if 1 in pixels.shape[:2] or (pixels.ndim == 3 and pixels.shape[2] == 2):
        raise DataError(f"{name}: expected images, got undecoded data: an array of shape {pixels.shape}")
    check_pixels(pixels, name)
