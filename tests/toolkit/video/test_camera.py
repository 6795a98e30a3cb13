from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest

from mmdistill.toolkit.alignment import Alignment
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import write_image
from mmdistill.toolkit.video import Camera, CameraFrames, open_input

WIDTH, HEIGHT = 40, 30


def picture(number: int, dtype: type = np.uint8, value: int = 100) -> np.ndarray:
    """An image with the frame's number in its first pixel."""
    shape = (HEIGHT, WIDTH, 3) if dtype is np.uint8 else (HEIGHT, WIDTH)
    image = np.linspace(0, value, int(np.prod(shape))).reshape(shape).astype(dtype)
    image[0, 0] = number
    return image


class FakeCapture:
    """A device that takes a frame every millisecond, until it is unplugged."""

    devices: ClassVar[dict[int, FakeCapture]] = {}

    def __init__(self, number: int) -> None:
        self.taken, self.last, self.raw, self.thermal, self.released = 0, 10**9, False, number == 7, False
        self.opened = number != 9
        FakeCapture.devices[number] = self

    def isOpened(self) -> bool:  # noqa: N802
        return self.opened

    def get(self, what: int) -> float:
        return float(cv2.VideoWriter.fourcc(*"Y16 ")) if self.thermal and what == cv2.CAP_PROP_FOURCC else 0.0

    def set(self, what: int, value: float) -> bool:
        self.raw = what == cv2.CAP_PROP_CONVERT_RGB and value == 0
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(0.001)
        self.taken += 1
        if self.taken > self.last:
            return False, None
        return True, picture(self.taken % 250, np.uint16, 30000) if self.thermal else picture(self.taken % 250)

    def release(self) -> None:
        self.released = True


@pytest.fixture(autouse=True)
def _devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    yield
    time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("camera")]


def number(image: np.ndarray | None) -> int:
    assert image is not None
    return int(image[0, 0, 0])


def test_a_slow_reader_gets_the_newest_frame_and_none_twice() -> None:
    camera = Camera(0)
    try:
        time.sleep(0.05)
        device = FakeCapture.devices[0]
        before = device.taken
        first = number(camera.frame())
        assert before - 1 <= first <= device.taken
        assert first > 3, "those in between are gone"
        several = [number(camera.frame()) for _ in range(10)]
        assert (np.diff([first, *several]) > 0).all()
    finally:
        camera.close()
    assert device.released


def test_two_cameras_side_by_side() -> None:
    frames = open_input("0", "1")
    assert isinstance(frames, CameraFrames)
    assert frames.length is None
    try:
        for reading in islice(frames, 5):
            assert reading.states == ("seen", "seen")
            assert reading.images.rgb is not None
            assert reading.images.rgb.shape == (HEIGHT, WIDTH, 3)
    finally:
        frames.close()
    assert all(FakeCapture.devices[device].released for device in (0, 1))


def test_16_bits_of_a_thermal_camera_are_kept() -> None:
    frames = open_input(tir="7")
    try:
        tir = next(iter(frames)).images.tir
    finally:
        frames.close()
    assert FakeCapture.devices[7].raw
    assert tir is not None
    assert tir.min() == 0
    assert tir.max() == 255
    assert len(np.unique(tir)) > 200


def test_a_camera_that_is_unplugged() -> None:
    frames = open_input("0", "1")
    readings = iter(frames)
    next(readings)
    FakeCapture.devices[1].last = 0
    time.sleep(0.02)
    with pytest.raises(DataError, match="camera 1: gave no frame"):
        list(islice(readings, 3))
    frames.close()


def test_the_other_camera_goes_on_by_choice_and_the_video_ends_with_the_last() -> None:
    frames = open_input("0", "1", on_broken="skip")
    readings = iter(frames)
    next(readings)
    FakeCapture.devices[1].last = 0
    time.sleep(0.02)
    later = list(islice(readings, 4))
    assert later[-1].states == ("seen", "broken")
    assert "camera 1: gave no frame" in later[-1].problem
    FakeCapture.devices[0].last = 0
    assert len(list(readings)) <= 2
    frames.close()


def test_a_silent_camera_is_not_waited_for_without_end() -> None:
    camera = Camera(0, timeout=0.05)
    FakeCapture.devices[0].read = lambda: (time.sleep(0.3), (False, None))[1]  # type: ignore[method-assign]
    time.sleep(0.02)
    camera._newest = None
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"gave no frame for 0\.05 seconds"):
        camera.frame()
    assert time.perf_counter() - start < 0.25
    camera._thread.join()


def test_a_camera_that_cannot_be_opened_closes_the_other() -> None:
    with pytest.raises(DataError, match="camera 9: cannot open it"):
        open_input("0", "9")
    assert FakeCapture.devices[0].released


def test_cameras_do_not_mix_with_recordings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected two cameras or two recordings, got 0 for RGB and .*film"):
        open_input("0", str(tmp_path / "film"))


def test_a_folder_named_like_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "0" / "1.png", picture(1))
    monkeypatch.chdir(tmp_path)
    frames = open_input("./0")
    assert frames.length == 1


@pytest.mark.parametrize(
    "shape", [(1, HEIGHT * WIDTH * 2), (HEIGHT * WIDTH * 2, 1), (HEIGHT, WIDTH, 2), (HEIGHT, WIDTH, 5)]
)
def test_a_camera_that_gives_undecoded_data_is_named(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]) -> None:
    monkeypatch.setattr(FakeCapture, "read", lambda _: (time.sleep(0.001), (True, np.ones(shape, np.uint8)))[1])
    frames = open_input("0", "1")
    try:
        with pytest.raises(DataError, match=r"camera 0: expected .*\(" + ", ".join(map(str, shape))):
            next(iter(frames))
    finally:
        frames.close()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_camera_may_give_gray_color_or_color_with_alpha(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, channels)).astype(np.uint8)
    monkeypatch.setattr(FakeCapture, "read", lambda _: (time.sleep(0.001), (True, data))[1])
    camera = Camera(0)
    try:
        image = camera.frame()
    finally:
        camera.close()
    np.testing.assert_array_equal(image, np.repeat(data, 3, axis=2) if channels == 1 else data[..., 2::-1])


def test_a_camera_that_changes_its_size_is_named() -> None:
    frames = open_input("0", "1")
    readings = iter(frames)
    try:
        next(readings)
        FakeCapture.devices[0].read = lambda: (time.sleep(0.001), (True, np.ones((9, 8, 3), np.uint8)))[1]  # type: ignore[method-assign]
        with pytest.raises(DataError, match=rf"camera 0: .* is 8 x 9, .*{WIDTH} x {HEIGHT}"):
            list(islice(readings, 5))
    finally:
        frames.close()


def test_cameras_are_aligned() -> None:
    moved = Alignment(((1.0, 0.0, 6.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (WIDTH, HEIGHT), (WIDTH, HEIGHT))
    frames = open_input("0", "1", alignment=moved)
    reading = next(iter(frames))
    frames.close()
    rgb, tir = reading.images
    assert rgb is not None
    assert tir is not None
    np.testing.assert_array_equal(tir[1:, 6:], rgb[1:, :-6])
    assert reading.mask is not None
    assert not reading.mask[:, :5].any()
    with pytest.raises(DataError, match="expected RGB and TIR, got 0 for RGB and None for TIR"):
        open_input("0", alignment=moved)
