"""A part of the experiment that has a time of its own: what it is asked for is done until that is over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from parts.ablation.pool import Map
from parts.ablation.runs import Place, Run, carry_out, finished, left


class Stage:
    """What is done of an experiment before a time is over.

    Attributes:
        place: where runs are carried out.
        left: what could not be done, in words.
        failed: whether anything went wrong.
    """

    def __init__(self, place: Place, jobs: int) -> None:
        self.place, self.jobs = place, jobs
        self.left: list[str] = []
        self.failed = False

    def do(self, runs: Sequence[Run], each: Map) -> bool:
        """Carry out runs; return whether all are finished."""
        open_ones = [run for run in runs if not finished(run, self.place.root)]
        before = len(self.left)
        for run, why in zip(open_ones, each(partial(carry_out, place=self.place), open_ones), strict=True):
            if not why:
                print(f"{run.folder}: finished", flush=True)
                continue
            if why == "stopped" and time.time() < self.place.end:
                raise KeyboardInterrupt  # the run was told so, and has saved what it had
            self.left.append(left(run, self.place.root) + (f" ({why})" if why != "stopped" else ""))
            self.failed |= why != "stopped"
        return len(self.left) == before
