"""The live window, on a canvas without a screen and a clock of the test's own."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backend_bases import CloseEvent, KeyEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmdistill.cli.live_window import LiveWindow
from mmdistill.toolkit.sequence import Image


class Session:
    """A window whose pictures take a stated time, and whose frames are tracked in a stated time."""

    def __init__(self, drawing: float, size: tuple[int, int] = (48, 128)) -> None:
        self.now, self.drawing, self.size = 0.0, drawing, size
        self.shown: list[float] = []
        self.figure = Figure()
        self.canvas = FigureCanvasAgg(self.figure)
        self.window = LiveWindow(self.figure, clock=lambda: self.now)

    def picture(self) -> Image:
        self.shown.append(self.now)
        self.now += self.drawing
        return np.full((*self.size, 3), (0, 200, 0), np.uint8)

    def track(self, frames: int, seconds: float) -> None:
        for _ in range(frames):
            self.now += seconds
            self.window.update(self.picture)

    def press(self, key: str) -> None:
        self.canvas.callbacks.process("key_press_event", KeyEvent("key_press_event", self.canvas, key))

    def close(self) -> None:
        self.canvas.callbacks.process("close_event", CloseEvent("close_event", self.canvas))


@pytest.mark.parametrize(("size", "window"), [((48, 128), (48, 128)), ((600, 1600), (480, 1280))])
def test_the_picture_fills_the_window(size: tuple[int, int], window: tuple[int, int]) -> None:
    session = Session(0.0, size)
    session.track(1, 0.01)
    drawn = np.asarray(session.canvas.buffer_rgba())
    assert drawn.shape[:2] == window
    assert (drawn[..., :3] == (0, 200, 0)).all()


@pytest.mark.parametrize("drawing", [0.02, 0.05, 0.5])
def test_the_window_takes_a_tenth_of_the_time(drawing: float) -> None:
    session = Session(drawing)
    session.track(5000, 0.01)
    _opened, *later = session.shown
    assert len(later) > 10
    assert 0.08 < len(later) * drawing / (session.now - later[0]) < 0.11


def test_cheap_pictures_are_all_shown() -> None:
    session = Session(0.001)
    session.track(100, 0.01)
    assert len(session.shown) == 100


def test_one_slow_picture_does_not_stop_the_window() -> None:
    session = Session(0.02)
    session.track(1, 0.01)
    session.track(200, 0.01)
    session.drawing = 1.0
    while session.now - session.shown[-1] < 1:
        session.track(1, 0.01)
    session.drawing = 0.02
    session.track(300, 0.01)
    assert max(np.diff(session.shown)) < 1 + 9 * (0.2 * 1.0 + 0.8 * 0.02) + 0.05


def test_opening_the_window_is_not_counted() -> None:
    session = Session(2.0)
    session.track(1, 0.01)
    session.drawing = 0.02
    session.track(2, 0.01)
    assert len(session.shown) == 2


def test_a_closed_window_shows_nothing_and_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(0.001)
    session.track(3, 0.01)
    session.close()
    session.track(3, 0.01)
    assert len(session.shown) == 3
    assert (session.window.closed, session.window.stopped) == (True, False)
    assert capsys.readouterr().err == "the window is closed; tracking continues, Ctrl-C ends it\n"


def test_the_user_is_heard_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    session, heard = Session(1.0), list[float]()
    session.track(2, 0.01)
    monkeypatch.setattr(session.canvas, "flush_events", lambda: heard.append(session.now))
    session.track(800, 0.01)
    assert len(session.shown) == 2
    assert np.allclose(np.diff(heard), 0.1, atol=0.011)


def test_the_end_of_a_run_closes_the_window_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(0.001)
    with session.window:
        session.track(1, 0.01)
    session.close()
    assert session.window.closed
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("key", "stops"), [("q", True), ("escape", True), ("s", False), ("enter", False)])
def test_keys_that_end_the_run(key: str, stops: bool) -> None:
    session = Session(0.001)
    session.press(key)
    assert session.window.stopped is stops


def test_a_window_that_fails_does_not_end_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session(0.001)
    session.track(1, 0.01)

    def lost() -> None:
        raise RuntimeError("lost the connection to the screen")

    monkeypatch.setattr(session.canvas, "draw", lost)
    session.track(5, 0.01)
    assert session.window.closed
    assert caplog.messages == [
        "the window failed, and tracking continues without it: lost the connection to the screen"
    ]
