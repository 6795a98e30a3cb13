"""Progress bars on a terminal; nothing where standard error is a file, so that errors stand there alone."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm


def progress_bar(total: int | None, title: str, unit: str, *, initial: int = 0, show: bool = True) -> tqdm[Any]:
    """Return a bar with the rate and the time left.

    Args:
        total: how many units there are; None if nobody knows.
        title: what is under way.
        unit: of what.
        initial: how many were done before.
        show: whether to show it, if there is a terminal.
    """
    disable = None if show else True  # None asks for a terminal
    return tqdm(total=total, initial=initial, desc=title, unit=unit, disable=disable, dynamic_ncols=True)
