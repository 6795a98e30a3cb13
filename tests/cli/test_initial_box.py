from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backend_bases import KeyEvent, MouseEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmdistill.cli.initial_box import BoxChooser, initial_box
from mmdistill.pair import Pair
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import FramePair, Image

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
def test_text_that_is_neither_a_box_nor_a_file(text: str) -> None:
    with pytest.raises(DataError, match=r"^--init: expected four numbers x,y,w,h .*, or a file"):
        initial_box(text, BOTH)


def test_invalid_initial_boxes() -> None:
    for text, says in (
        ("10,10,0,5", "no area"),
        ("100,10,5,5", "outside the image of 80 x 60"),
        ("nan,1,1,1", "finite"),
        ("10,10,1e-6,1e-6", "1e-06 x 1e-06 pixels lie inside"),
        ("79.5,10,20,20", "0.5 x 20 pixels lie inside the image of 80 x 60; expected at least 1 x 1"),
        ("-19.5,10,20,20", "0.5 x 20"),
        ("-1e299,0,1e300,20", "4 times as long"),
        ("0,0,20,1e300", "4 times as long"),
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


def chooser(image: Image) -> tuple[BoxChooser, Figure]:
    figure = Figure(figsize=(8, 6))
    FigureCanvasAgg(figure)
    made = BoxChooser(figure, image)
    figure.canvas.draw()
    return made, figure


def drag(figure: Figure, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag the mouse between two points in pixels of the image."""
    transform = figure.axes[0].transData.transform
    for name, point in (("button_press_event", start), ("motion_notify_event", end), ("button_release_event", end)):
        x, y = transform(point)
        figure.canvas.callbacks.process(name, MouseEvent(name, figure.canvas, x, y, button=1))


def press(figure: Figure, key: str) -> None:
    figure.canvas.callbacks.process("key_press_event", KeyEvent("key_press_event", figure.canvas, key))


@pytest.mark.parametrize("size", [(60, 160), (1000, 3200)])
@pytest.mark.parametrize("back", [False, True])
def test_a_box_drawn_with_the_mouse(size: tuple[int, int], back: bool) -> None:
    made, figure = chooser(np.zeros((*size, 3), np.uint8))
    scale = size[1] / 160
    corners = (20 * scale, 10 * scale), (55 * scale, 40 * scale)
    drag(figure, *(corners[::-1] if back else corners))
    np.testing.assert_array_equal(made.box, np.zeros(4), "not taken before Enter")
    press(figure, "enter")
    np.testing.assert_allclose(made.box, np.array([20, 10, 35, 30]) * scale, atol=0.5 * scale)


@pytest.mark.parametrize("key", ["escape", "x"])
def test_a_drawing_that_is_canceled(key: str) -> None:
    made, figure = chooser(np.zeros((60, 80, 3), np.uint8))
    drag(figure, (10, 10), (40, 40))
    press(figure, key)
    np.testing.assert_array_equal(made.box, np.zeros(4))


def test_enter_without_a_box() -> None:
    made, figure = chooser(np.zeros((60, 80, 3), np.uint8))
    press(figure, "enter")
    assert made.box[2:].max() == 0


DRAWN = """
import numpy as np
import matplotlib.pyplot as plt
from mmdistill.cli import initial_box
from mmdistill.pair import Pair

opened = initial_box.open_window

def open_and_draw(*given, **named):
    figure = opened(*given, **named)
    widget = figure.canvas.get_tk_widget()

    def point(x, y):
        across, up = figure.axes[0].transData.transform((x, y))
        return {"x": int(across), "y": int(widget.winfo_height() - up)}

    def draw():
        figure.canvas.draw()
        widget.focus_force()
        for event, at in (("<ButtonPress-1>", (50, 100)), ("<B1-Motion>", (90, 120)), ("<B1-Motion>", (120, 150))):
            widget.event_generate(event, **point(*at))
            widget.update()
        widget.event_generate("<ButtonRelease-1>", **point(120, 150))
        widget.update()
        widget.event_generate("<KeyPress>", keysym="Return")

    widget.after(500, draw)
    widget.after(20000, lambda: plt.close(figure))
    return figure

initial_box.open_window = open_and_draw
image = np.zeros((240, 320, 3), np.uint8)
print(*initial_box.initial_box(None, Pair(image, None)))
"""


@pytest.mark.slow
def test_a_box_drawn_in_a_window_of_tk() -> None:
    """On a screen in memory, by events of the window system."""
    pytest.importorskip("tkinter")
    screen = shutil.which("xvfb-run")
    if screen is None:
        pytest.skip("Xvfb is not installed")
    command = [screen, "-a", sys.executable, "-c", DRAWN]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    np.testing.assert_allclose([float(each) for each in ended.stdout.split()], [50, 100, 70, 50], atol=1)
