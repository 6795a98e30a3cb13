"""Windows of Matplotlib: opened where there is a screen, an error that says what to do where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from mmdistill.cli import windows
from mmdistill.cli.windows import open_window
from mmdistill.toolkit.data_issues import DataError


@pytest.mark.parametrize(
    ("display", "installed", "says"),
    [
        ("", False, "there is no screen (over SSH: ssh -X)"),
        ("", True, "there is no screen (over SSH: ssh -X)"),
        (":77", True, "there is no screen (over SSH: ssh -X)"),
        (":77", False, "Matplotlib has no window toolkit (pip install 'mmdistill[window]')"),
    ],
)
def test_why_there_is_no_window(monkeypatch: pytest.MonkeyPatch, display: str, installed: bool, says: str) -> None:
    def missing(toolkit: str) -> None:
        raise ImportError(f"Cannot load {toolkit}")

    monkeypatch.setattr(plt, "switch_backend", missing)
    monkeypatch.setattr(windows, "find_spec", lambda _: object() if installed else None)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(DataError) as raised:
        open_window("title", "--show", "leave it out")
    assert str(raised.value) == f"--show: no window can be opened, because {says}; leave it out"


def test_the_first_toolkit_that_works_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def switch(toolkit: str) -> None:
        tried.append(toolkit)
        if toolkit != "qtagg":
            raise ImportError(toolkit)

    monkeypatch.setattr(plt, "switch_backend", switch)
    monkeypatch.setattr(plt, "figure", lambda title: Figure(label=title))
    assert open_window("title", "--show", "leave it out").get_label() == "title"
    assert tried == ["macosx", "tkagg", "qtagg"]


SESSION = """
import sys
import numpy as np
import matplotlib
from mmdistill.cli.live_window import LiveWindow
from mmdistill.cli.windows import open_window

figure = open_window("a title", "--show", "leave it out", toolbar=False)
picture = np.zeros((120, 320, 3), np.uint8)
picture[:, :160] = (255, 0, 0)
window = LiveWindow(figure)
window.update(lambda: picture)
drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3]
height, width = drawn.shape[:2]
assert abs(width / height - 320 / 120) < 0.05, (width, height)
assert tuple(drawn[height // 2, width // 4]) == (255, 0, 0), drawn[height // 2, width // 4]
assert tuple(drawn[height // 2, 3 * width // 4]) == (0, 0, 0)
{action}
window.update(lambda: picture)
print(matplotlib.get_backend().lower(), window.closed, window.stopped)
"""

ACTIONS = {
    "close": ("import matplotlib.pyplot as plt; plt.close(figure)", "True False"),
    "press q": (
        "from matplotlib.backend_bases import KeyEvent\n"
        "figure.canvas.callbacks.process('key_press_event', KeyEvent('key_press_event', figure.canvas, 'q'))",
        "False True",
    ),
}


@pytest.fixture
def virtual_screen() -> Iterator[str]:
    """The name of a virtual screen."""
    if shutil.which("Xvfb") is None:
        pytest.skip("needs a virtual screen, Xvfb")
    with subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-noreset"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        yield f":{int(server.stdout.readline())}"
        server.terminate()


@pytest.mark.slow
@pytest.mark.parametrize(("toolkit", "module"), [("tkagg", "tkinter"), ("qtagg", "PySide6")])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_real_window_on_a_virtual_screen(
    tmp_path: Path, virtual_screen: str, toolkit: str, module: str, action: str
) -> None:
    pytest.importorskip(module)
    code, expected = ACTIONS[action]
    script = tmp_path / "session.py"
    choice = f"import mmdistill.cli.windows as windows\nwindows.TOOLKITS = ({toolkit!r},)\n"
    script.write_text(choice + SESSION.format(action=code))
    environment = {**os.environ, "DISPLAY": virtual_screen, "PYTHONPATH": str(Path(windows.__file__).parents[2])}
    run = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    if toolkit == "qtagg" and "no Qt platform plugin could be initialized" in run.stderr:
        pytest.skip(run.stderr.splitlines()[0])
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == f"{toolkit} {expected}"
