"""``mmdistill demo``: trains, distills and scores small trackers on synthetic video."""

from __future__ import annotations

import logging
from pathlib import Path

from mmdistill.toolkit.data_issues import printable
from mmdistill.toolkit.folder_lock import lock_folder
from mmdistill.toolkit.ranges import Seed


def demo(out: Path = Path("demo"), seed: Seed = 0, quiet: bool = False) -> None:
    """Train a small teacher and two students on synthetic video, and score them.

    The students are equal, but only one is distilled from the teacher. Needs no data and takes a few minutes on two CPU
    cores. The same command resumes an interrupted run.

    Writes table.txt, demo.json, success.png, precision.png and video.gif: RGB beside TIR, with the boxes of both
    students and the label.
    The same seed and number of threads give the same scores.

    Run it in the folder demo:

      mmdistill demo

    Run it with another seed, in a folder of your own:

      mmdistill demo --seed 1 --out runs/demo_1

    Args:
        out: Folder for all files.
        seed: Seed of data, weights and tracking.
        quiet: Show no progress.
    """
    from mmdistill.reference.demo.report import format_report, run_demo

    logging.getLogger("mmdistill.reference.demo").setLevel(logging.WARNING if quiet else logging.INFO)
    with lock_folder(out):
        results = run_demo(out, seed=seed, progress=not quiet)
    print(f"\n{format_report(results)}\n\nPlots, video and figures: {printable(out)}")
