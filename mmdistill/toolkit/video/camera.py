"""Reads live frames from a camera."""

from __future__ import annotations

import threading

import cv2

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import check_pixels, to_rgb
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.thermal import Pixels, ThermalRange, is_thermal


class Camera:
    """The newest frame of a camera.

    A thread reads every frame and keeps only the last one. A slow tracker is therefore at most one frame late.
    16-bit gray frames of thermal cameras keep their bits; see ``ThermalRange``.

    Args:
        number: the device's number, from 0.
        timeout: maximum time to wait for a frame, seconds.

    Raises:
        DataError: the camera does not exist, is in use, or delivers no frame.
    """

    def __init__(self, number: int, *, timeout: float = 5.0) -> None:
        self.name = f"camera {number}"
        self._timeout = timeout
        self._range = ThermalRange()
        self._capture = _open(number, self.name)
        self._condition = threading.Condition()
        self._newest: Pixels | None = None
        self._index = 0
        self._running = True
        self._thread = threading.Thread(target=self._capture_frames, name=self.name, daemon=True)
        self._thread.start()

    def frame(self) -> Image:
        """Wait for a new frame, and return it as ``(H, W, 3)`` RGB.

        Raises:
            DataError: the camera delivers no more frames, or undecoded data.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._newest is not None or not self._running, self._timeout)
            pixels, self._newest = self._newest, None
        if pixels is None:
            self.close()  # so that later calls do not wait again
            raise DataError(f"{self.name}: gave no frame for {self._timeout:g} seconds, or was unplugged")
        _check_frame(pixels, self.name)
        self._range.measure(self._index, pixels)
        limits = self._range.at(self._index, pixels) if is_thermal(pixels) else None
        self._index += 1
        return to_rgb(pixels, limits)

    def close(self) -> None:
        """Release the camera."""
        self._running = False
        self._thread.join(self._timeout)

    def _capture_frames(self) -> None:
        while self._running:
            success, pixels = self._capture.read()
            with self._condition:
                self._running = self._running and success
                self._newest = pixels if success else self._newest
                self._condition.notify()
        self._capture.release()


def _check_frame(pixels: Pixels, name: str) -> None:
    """Refuse arrays that are not images: a row of undecoded bytes, or the two channels of raw YUYV."""
    if 1 in pixels.shape[:2] or (pixels.ndim == 3 and pixels.shape[2] == 2):
        raise DataError(f"{name}: expected images, got undecoded data: an array of shape {pixels.shape}")
    check_pixels(pixels, name)


def _open(number: int, name: str) -> cv2.VideoCapture:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(number)
    cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        raise DataError(f"{name}: cannot open it; check that it is connected and not in use")
    if int(capture.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"Y16 "):
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    return capture
