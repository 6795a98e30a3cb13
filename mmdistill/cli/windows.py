"""Opens windows of Matplotlib, because the headless package of OpenCV, on which this project depends, has none."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from mmdistill.toolkit.data_issues import DataError

TOOLKITS = ("macosx", "tkagg", "qtagg", "gtk3agg", "wxagg")
"""Matplotlib's window toolkits, tried in this order. Tk comes with most Pythons."""

TOOLKIT_MODULES = ("_tkinter", "PyQt6", "PySide6", "PyQt5", "wx")
"""The modules that these toolkits need, except for macosx and GTK."""


def open_window(title: str, option: str, alternative: str, *, toolbar: bool = True) -> Figure:
    """Return an empty figure in a window of the first toolkit that works.

    Args:
        title: Title of the window.
        option: The option that needs the window, for the error.
        alternative: What to do without a window, for the error.
        toolbar: Whether the window has Matplotlib's buttons and keys.

    Raises:
        DataError: There is no screen, or no toolkit.
    """
    for toolkit in TOOLKITS:
        try:
            plt.switch_backend(toolkit)
            with mpl.rc_context({} if toolbar else {"toolbar": "None"}):
                figure = plt.figure(title)
        except Exception:  # each toolkit has its own errors for a missing screen
            continue
        keys = getattr(figure.canvas.manager, "key_press_handler_id", None)
        if keys is not None and not toolbar:
            figure.canvas.mpl_disconnect(keys)
        return figure
    raise DataError(f"{option}: no window can be opened, because {_cause()}; {alternative}")


def _cause() -> str:
    """Return why no window can be opened, and the remedy."""
    without_screen = sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if without_screen or any(find_spec(module) is not None for module in TOOLKIT_MODULES):
        return "there is no screen (over SSH: ssh -X)"
    return "Matplotlib has no window toolkit (pip install 'mmdistill[window]')"
