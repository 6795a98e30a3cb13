"""A camera as frames: live, of unknown length, always the newest."""

from __future__ import annotations

import threading

import cv2

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import Pixels, check_pixels, is_thermal, to_rgb
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.video.thermal_range import SteadyRange


class Camera:
    """The newest frame of a camera.

    A thread takes every frame from the camera and keeps only the last one, so that a tracker slower than the camera
    falls behind by no more than the frame it is at work on. 16-bit gray, as thermal cameras give it, keeps its bits:
    see ``SteadyRange``.

    Args:
        number: the device's number, from 0.
        patience: how long a new frame may take, seconds.

    Raises:
        DataError: no such camera, another program has it, or no frame comes.
    """

    def __init__(self, number: int, *, patience: float = 5.0) -> None:
        self.name = f"camera {number}"
        self._patience = patience
        self._range = SteadyRange()
        self._capture = _open(number, self.name)
        self._change = threading.Condition()
        self._newest: Pixels | None = None
        self._seen = 0
        self._running = True
        self._thread = threading.Thread(target=self._take, name=self.name, daemon=True)
        self._thread.start()

    def frame(self) -> Image:
        """Wait for a frame that was not returned before, and return it as ``(H, W, 3)`` RGB.

        Raises:
            DataError: the camera gives no more frames, or its data as they come instead of images.
        """
        with self._change:
            self._change.wait_for(lambda: self._newest is not None or not self._running, self._patience)
            pixels, self._newest = self._newest, None
        if pixels is None:
            self.close()  # whoever goes on without this camera need not wait for it again
            raise DataError(f"{self.name}: gave no frame for {self._patience:g} seconds, or was unplugged")
        _check_frame(pixels, self.name)
        self._range.measure(self._seen, pixels)
        limits = self._range.at(self._seen, pixels) if is_thermal(pixels) else None
        self._seen += 1
        return to_rgb(pixels, limits)

    def close(self) -> None:
        """Let go of the camera."""
        self._running = False
        self._thread.join(self._patience)

    def _take(self) -> None:
        while self._running:
            taken, pixels = self._capture.read()
            with self._change:
                self._running = self._running and taken
                self._newest = pixels if taken else self._newest
                self._change.notify()
        self._capture.release()


def _check_frame(pixels: Pixels, name: str) -> None:
    """Refuse data that are no image: a row of undecoded bytes, or the two channels of raw YUYV.

    Raises:
        DataError: they are none.
    """
    if 1 in pixels.shape[:2] or (pixels.ndim == 3 and pixels.shape[2] == 2):
        raise DataError(
            f"{name}: expected images, got an array of shape {pixels.shape}: the camera's data, not decoded"
        )
    check_pixels(pixels, name)


def _open(number: int, name: str) -> cv2.VideoCapture:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(number)
    cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        raise DataError(f"{name}: cannot open it; is it there, and does no other program use it?")
    if int(capture.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"Y16 "):
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    return capture
