"""Reads live frames from a camera of this computer, by OpenCV."""

from __future__ import annotations

import cv2
import numpy as np

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.thermal import Pixels
from mmdistill.toolkit.video.live import LiveSource


class Camera(LiveSource):
    """The newest frame of a camera; see ``LiveSource``.

    Args:
        number: the device's number, from 0.
        timeout: maximum time to wait for a frame, seconds.

    Raises:
        DataError: the camera does not exist, is in use, or delivers no frame.
    """

    def __init__(self, number: int, *, timeout: float = 5.0) -> None:
        super().__init__(f"camera {number}", timeout)
        self._capture = _open(number, self.name)
        self._start()

    def _read(self) -> Pixels | None:
        success, pixels = self._capture.read()
        return np.asarray(pixels) if success else None

    def _release(self) -> None:
        self._capture.release()

    def _reason(self) -> str:
        return f"gave no frame for {self._timeout:g} seconds, or was unplugged"


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
