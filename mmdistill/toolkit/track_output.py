"""Writes the files of a tracked video: boxes, scores, a table of frames, and a summary."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TextIO

from mmdistill.pair import Pair
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.tracking_loop import TrackedFrame
from mmdistill.toolkit.video import State

COLUMNS = ("frame", "score", "flag", "rgb", "tir", "note")
STATES: tuple[State, ...] = ("seen", "missing", "black", "broken", "uncovered")


LOST_HINT_SHARE = 0.2
"""The share of frames with a lost target above which a hint says what to try."""


class LostFrames(NamedTuple):
    """Frames in which the target was not found; each keeps the last box.

    Attributes:
        frames: their count.
        first: the number of the first, from 1; None without lost frames.
    """

    frames: int
    first: int | None


class TrackOutput:
    """Writes results frame by frame; a context manager.

    ``boxes.txt`` has ``x,y,w,h`` and ``scores.txt`` a score, one line for each frame. ``frames.csv`` has the tracker's
    flag, the state of each modality, and reading problems. Each frame is written at once, so memory stays constant.
    At the end of the block, also after an error or interruption, ``summary.json`` states how the run ended. Nothing is
    written before the first frame; files of an earlier run are replaced.

    Args:
        folder: output folder.
        about: the run's inputs and settings, for the summary.
        frames: the video's number of frames; None if unknown.
        incomplete: why the recording ends early; empty for a whole recording.

    Attributes:
        folder: output folder.
    """

    def __init__(
        self, folder: str | Path, about: Mapping[str, Any], frames: int | None, *, incomplete: str = ""
    ) -> None:
        self._incomplete, self._stopped = incomplete, ""
        self.folder, self._about, self._frames = Path(folder), about, frames
        self._files = ExitStack()
        self._boxes: TextIO
        self._scores: TextIO
        self._table: Any
        self._start = time.perf_counter()
        self._counts = _FrameCounts()

    def __enter__(self) -> TrackOutput:
        return self

    def append(self, tracked: TrackedFrame) -> None:
        """Write a frame's lines."""
        if not self._counts.frames:
            self._open()
        self._boxes.write(",".join(f"{value:.3f}" for value in tracked.box) + "\n")
        self._scores.write(f"{tracked.score:.4f}\n")
        states, note = tracked.reading.states, tracked.reading.problem
        self._table.writerow((tracked.number, f"{tracked.score:.4f}", tracked.flag, states.rgb, states.tir, note))
        self._counts.add(tracked, time.perf_counter() - self._start)

    @property
    def frames(self) -> int:
        """The number of frames so far."""
        return self._counts.frames

    @property
    def tracking_rate(self) -> float:
        """Frames per second of the tracker alone, without the first frame."""
        return self._counts.tracking_rate

    @property
    def outcome(self) -> str:
        """The number of frames so far, and of those with a lost target or without an image, as text."""
        counts, ended = self._counts, f"; {self._stopped}" if self._stopped else ""
        first = "" if counts.lost.first is None else f", first at {counts.lost.first}"
        skipped = f", {counts.skipped} without an image" if counts.skipped else ""
        return f"lost in {counts.lost.frames} of {counts.frames} frames{first}{skipped}{ended}"

    @property
    def hint(self) -> str:
        """What to try if the target was lost in many frames; else empty."""
        share = self._counts.lost.frames / max(self._counts.frames, 1)
        if share <= LOST_HINT_SHARE:
            return ""
        return (
            f"the target was lost in {share:.0%} of the frames; try a tighter --init box, another start frame, or a "
            "network trained on such video"
        )

    def stop(self, reason: str) -> None:
        """Note that the run ends before the video's end, and why."""
        self._stopped = reason

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._files.close()
        if not self._counts.frames:
            return
        ended = self._stopped or self._incomplete or "complete" if error is None else str(error) or "interrupted"
        summary = {"ended": ended, "frames": self._frames, **self._counts.figures(), "hint": self.hint, **self._about}
        write_text(self.folder / "summary.json", json.dumps(summary, indent=2) + "\n")

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        # Notes contain file names, which may not be UTF-8.
        options: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "", "buffering": 1}
        self._boxes, self._scores, table = (
            self._files.enter_context((self.folder / name).open("w", **options))
            for name in ("boxes.txt", "scores.txt", "frames.csv")
        )
        self._table = csv.writer(table, lineterminator="\n")
        self._table.writerow(COLUMNS)


class _FrameCounts:
    """Counts and times of the frames so far."""

    def __init__(self) -> None:
        self.frames = 0
        self._flags: Counter[str] = Counter()
        self._states: Pair[Counter[str]] = Pair(Counter(), Counter())
        self._sizes: Pair[list[tuple[int, int]]] = Pair([], [])
        self._first_lost: int | None = None
        self._tracked = 0
        self._seconds = self._elapsed = 0.0

    def add(self, tracked: TrackedFrame, elapsed: float) -> None:
        self.frames += 1
        self._flags[tracked.flag] += 1
        if tracked.flag == "not_found" and self._first_lost is None:
            self._first_lost = tracked.number
        for counter, state in zip(self._states, tracked.reading.states, strict=True):
            counter[state] += 1
        for sizes, size in zip(self._sizes, tracked.reading.sizes, strict=True):
            if size is not None and not sizes:
                sizes.append(size)
        if tracked.flag not in ("initial", "skipped"):
            self._tracked += 1
            self._seconds += tracked.seconds
        self._elapsed = elapsed

    @property
    def tracking_rate(self) -> float:
        return self._tracked / max(self._seconds, 1e-9)

    @property
    def skipped(self) -> int:
        return self._flags["skipped"]

    @property
    def lost(self) -> LostFrames:
        return LostFrames(self._flags["not_found"], self._first_lost)

    def figures(self) -> dict[str, Any]:
        """Return the summary's figures; the first frame counts as tracked."""
        rate = {"overall": self.frames / max(self._elapsed, 1e-9), "tracking": self.tracking_rate}
        return {
            "tracked": self.frames - self.skipped,
            "skipped": self.skipped,
            "lost": self.lost._asdict(),
            "frames_per_second": {name: round(value, 2) for name, value in rate.items()},
            "flags": dict(self._flags),
            "rgb": self._modality(self._states.rgb, self._sizes.rgb),
            "tir": self._modality(self._states.tir, self._sizes.tir),
        }

    @staticmethod
    def _modality(states: Counter[str], sizes: list[tuple[int, int]]) -> dict[str, Any] | None:
        """Return the counts of one modality, or None if the video does not have it."""
        if states["absent"]:
            return None
        return {"size": list(sizes[0]) if sizes else None, **{name: states[name] for name in STATES}}
