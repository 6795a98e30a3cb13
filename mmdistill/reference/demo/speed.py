"""Frames a second of several trackers, measured alike: on the same frames, taking turns."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from numpy.typing import ArrayLike

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.sequence import FramePair, TrackingSequence

ROUNDS = 5
"""How often the video is tracked for each frame's median, after one round to warm up."""

HOW = (
    "frames/s: all trackers take turns at each frame of one video; the tracker alone, without its first frame and "
    f"without reading images; each frame counts by its median over {ROUNDS} rounds, after one to warm up"
)


class Tracker(Protocol):
    """What is timed."""

    def init(self, frame: FramePair, box: ArrayLike) -> None:
        """Start a video."""

    def update(self, frame: FramePair) -> object:
        """Find the target in the next frame."""


def frames_per_second(
    trackers: Mapping[str, Tracker],
    video: TrackingSequence,
    *,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return by name how many frames a second each tracker does.

    Whoever is first at a frame changes from frame to frame, so what else the machine does slows all of them alike.

    Args:
        trackers: by name.
        video: two frames or more, all of which are in memory at once.
        rounds: how often it is tracked, after one round that does not count; each frame counts by its median.
        clock: seconds.
    """
    frames = [video.frame(index) for index in range(len(video))]
    names = list(trackers)
    taken = {name: [list[float]() for _ in frames[1:]] for name in names}
    for number in range(rounds + 1):
        for tracker in trackers.values():
            tracker.init(frames[0], video.boxes[0])
        for index, frame in enumerate(frames[1:]):
            first = (index + number) % len(names)
            for name in names[first:] + names[:first]:
                start = clock()
                trackers[name].update(frame)
                if number:
                    taken[name][index].append(clock() - start)
    seconds = {name: sum(map(statistics.median, each)) for name, each in taken.items()}
    return {name: (len(frames) - 1) / max(seconds[name], 1e-9) for name in names}


def kept_frames_per_second(path: Path, trackers: Mapping[str, Tracker], video: TrackingSequence) -> Mapping[str, float]:
    """Return what a file holds of an earlier call, or measure it and write the file.

    Raises:
        DataError: the file is malformed, or of other trackers.
    """
    if path.exists():
        try:
            kept = {
                str(name): float(value) for name, value in json.loads(path.read_text())["frames_per_second"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: expected frames per second by tracker in JSON; remove it") from error
        if kept.keys() != trackers.keys():
            raise DataError(f"{path}: expected {', '.join(trackers)}, got {', '.join(kept)}; remove it")
        return kept
    measured = frames_per_second(trackers, video)
    rounded = {name: round(value, 2) for name, value in measured.items()}
    write_text(path, json.dumps({"frames_per_second": rounded, "how": HOW}, indent=2) + "\n")
    return rounded
