"""``mmdistill demo``: the whole main job, small, on data it makes itself."""

from __future__ import annotations

import logging
from pathlib import Path

from mmdistill.reference.demo.report import report, run_demo
from mmdistill.toolkit.data_issues import printable
from mmdistill.toolkit.folder_lock import lock_folder
from mmdistill.toolkit.ranges import Seed


def demo(out: Path = Path("demo"), seed: Seed = 0, quiet: bool = False) -> None:
    """Train a small teacher, a student alone and the same student distilled; score the three on held-out video.

    Takes a few minutes on two CPU cores and needs no data:

      mmdistill demo

    Writes table.txt, demo.json, success.png, precision.png and video.gif (RGB beside TIR, the boxes of all
    three). The same seed and number of threads give the same scores; frames per second are this machine's.
    Interrupted, the same command goes on where it stopped.

    Args:
        out: folder for everything that is written.
        seed: of data, weights and tracking.
        quiet: show no progress.
    """
    logging.getLogger("mmdistill.reference.demo").setLevel(logging.WARNING if quiet else logging.INFO)
    with lock_folder(out):
        contenders = run_demo(out, seed=seed, progress=not quiet)
    print(f"\n{report(contenders)}\n\nPlots, video and figures: {printable(out)}")
