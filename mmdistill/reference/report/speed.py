"""How fast a tracker was, as the run over a benchmark measured it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def read_speed(folder: Path, sequences: Iterable[str]) -> float | None:
    """Return frames per second: the tracker's own time, without reading images and without first frames.

    Args:
        folder: the ``results`` that ``mmdistill evaluate --out`` wrote, with a ``<sequence>.json`` each.
        sequences: over which it is taken.

    Returns:
        None where a sequence's times are missing or unreadable, as in others' raw results.
    """
    frames, total = 0, 0.0
    for name in sequences:
        try:
            seconds = np.array(json.loads((folder / f"{name}.json").read_text("utf-8"))["seconds"][1:])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if seconds.dtype.kind not in "fiu" or not np.isfinite(seconds).all():
            return None
        frames, total = frames + len(seconds), total + float(seconds.sum())
    return frames / total if total > 0 else None
