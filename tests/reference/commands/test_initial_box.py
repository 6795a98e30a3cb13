from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdistill.pair import Pair
from mmdistill.reference.commands import initial_box as module
from mmdistill.reference.commands.initial_box import initial_box, select_with_mouse
from mmdistill.reference.data.boxes import Array
from mmdistill.reference.data.sequence import FramePair, Image
from mmdistill.reference.errors import DataError

RGB, TIR = np.full((60, 80, 3), 1, np.uint8), np.full((60, 80, 3), 2, np.uint8)
BOTH: FramePair = Pair(RGB, TIR)


@pytest.mark.parametrize("text", ["10,20,30.5,40", " 10, 20, 30.5, 40 ", "10 20 30.5 40", "10\t20\t30.5\t40"])
def test_a_box_by_argument_or_from_a_file(tmp_path: Path, text: str) -> None:
    np.testing.assert_array_equal(initial_box(text, BOTH), [10, 20, 30.5, 40])
    for name in ("groundtruth.txt", "10,20,30,40"):
        (tmp_path / name).write_text(text + "\n1,2,3,4\n")
        np.testing.assert_array_equal(initial_box(str(tmp_path / name), BOTH), [10, 20, 30.5, 40])


def test_corners_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("10,20,40,20,40,50,10,50\n")
    np.testing.assert_array_equal(initial_box(str(tmp_path / "x.txt"), BOTH), [10, 20, 30, 30])


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "nowhere.txt", ""])
def test_what_is_neither(text: str) -> None:
    with pytest.raises(DataError, match=r"^--init: expected four numbers x,y,w,h .*, or a file"):
        initial_box(text, BOTH)


def test_boxes_nobody_could_start_from() -> None:
    for text, says in (
        ("10,10,0,5", "no area"),
        ("100,10,5,5", "outside the image of 80 x 60"),
        ("nan,1,1,1", "finite"),
    ):
        with pytest.raises(DataError, match=rf"^--init: .*{says}"):
            initial_box(text, BOTH)


def drawer(*box: float) -> tuple[Callable[[Image], Array], list[Image]]:
    shown: list[Image] = []

    def select(image: Image) -> Array:
        shown.append(image)
        return np.array(box, dtype=float)

    return select, shown


@pytest.mark.parametrize(("left", "expected"), [(15, 15), (80 + 15, 15)])
def test_a_box_may_be_drawn_on_either_image(left: float, expected: float) -> None:
    select, shown = drawer(left, 10, 20, 30)
    np.testing.assert_array_equal(initial_box(None, BOTH, select), [expected, 10, 20, 30])
    np.testing.assert_array_equal(shown[0], np.concatenate([RGB, TIR], axis=1))


def test_one_modality_is_shown_alone() -> None:
    select, shown = drawer(1, 2, 3, 4)
    initial_box(None, Pair(None, TIR), select)
    assert shown[0].shape == TIR.shape


def test_nothing_was_drawn() -> None:
    with pytest.raises(DataError, match="no box was drawn"):
        initial_box(None, BOTH, drawer(0, 0, 0, 0)[0])


@pytest.fixture
def _screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")


@pytest.mark.usefixtures("_screen")
def test_a_large_image_is_shown_smaller_and_the_box_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Image] = []

    def select(_: str, image: Image, **__: object) -> tuple[int, int, int, int]:
        shown.append(image)
        return 100, 50, 40, 30

    for name, fake in (("namedWindow", lambda _: None), ("selectROI", select), ("destroyWindow", lambda _: None)):
        monkeypatch.setattr(cv2, name, fake)
    image = np.zeros((1000, 3200, 3), np.uint8)
    image[..., 0] = 200
    np.testing.assert_allclose(select_with_mouse(image), [200, 100, 80, 60])
    assert shown[0].shape == (500, 1600, 3)
    assert shown[0][0, 0].tolist() == [0, 0, 200], "OpenCV shows BGR"


def test_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DataError, match=r"^--init: there is no screen to draw the box on; give x,y,w,h or a file"):
        initial_box(None, BOTH)


@pytest.mark.usefixtures("_screen")
def test_an_opencv_without_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise cv2.error("The function is not implemented.\nRebuild the library")

    monkeypatch.setattr(cv2, "namedWindow", missing)
    with pytest.raises(DataError, match=r"^--init: this OpenCV has no windows .* install opencv-python in place"):
        initial_box(None, BOTH)
