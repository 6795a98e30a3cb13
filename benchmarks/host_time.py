"""Measures the host's processor time in a tracked frame: what remains when the network takes no time.

The tracker runs as on a GPU, with the frame's functions captured as graphs. The graphs are empty: a replay does
nothing, and the outputs are the true boxes. Uploads are plain copies, because the benchmark runs on a CPU. RGB-T
student, crops of 288 pixels, synthetic videos of 640x480. Times are those of all threads together, as on one core.
Reports medians over the frames. The parts are timed in a second pass, because timing them takes time. Takes about a
minute.

Example:
    python benchmarks/host_time.py --out benchmarks/results/host_time.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from parts.report_fields import machine
from parts.timing import Stopwatch, no_rejection

from mmdistill.reference.models.config import student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.tracking import batch_tracker
from mmdistill.reference.tracking.batch_tracker import BatchTracker
from mmdistill.reference.tracking.frame_inputs import HostFrame, Windows
from mmdistill.reference.tracking.localization import FLAGS
from mmdistill.reference.tracking.runners import GraphRunner
from mmdistill.reference.tracking.step import TrackedStep
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.sequence import CachedSequence

LIMITS = {1: 1.0, 32: 3.0}
"""Limits by number of videos, milliseconds."""

NUM_VIDEOS = 4
"""Number of different videos; larger batches repeat them, which saves memory."""


@dataclass(frozen=True)
class Experiment:
    """Settings.

    Attributes:
        videos: numbers of videos.
        frames: number of timed frames.
        warmup: frames before the timed ones.
        size: width and height of the videos, pixels.
        width: width of the student's trunk, which does not matter here.
        threads: CPU threads.
    """

    videos: tuple[int, ...] = (1, 8, 32)
    frames: int = 100
    warmup: int = 10
    size: tuple[int, int] = (640, 480)
    width: int = 4
    threads: int = 1


class EmptyGraphs:
    """Takes the place of ``torch.cuda``: a capture records nothing, and a replay does nothing."""

    class CUDAGraph:
        """A graph without operations."""

        def replay(self) -> None:
            """Do nothing."""

        def reset(self) -> None:
            """Do nothing."""

    class Stream:
        """A stream without operations."""

        def __init__(self, device: torch.device | None = None) -> None:
            self.device = device

        def wait_stream(self, other: EmptyGraphs.Stream) -> None:
            """Do nothing."""

    def current_stream(self, device: torch.device) -> EmptyGraphs.Stream:
        """Return a stream."""
        return self.Stream(device)

    @contextmanager
    def stream(self, stream: EmptyGraphs.Stream) -> Iterator[None]:  # noqa: ARG002
        """Return a context that does nothing."""
        yield

    @contextmanager
    def graph(self, graph: EmptyGraphs.CUDAGraph, **options: Any) -> Iterator[None]:  # noqa: ARG002
        """Return a context that does nothing."""
        yield


class HostOnlyTracker:
    """A tracker of S synthetic videos without a network.

    Args:
        videos: with all frames in memory.
        width: width of the student's trunk, in which the first frames are learned.
    """

    def __init__(self, videos: list[CachedSequence], width: int) -> None:
        self.videos = videos
        self.tracker = BatchTracker(TrackerNetwork(student_settings(width)), no_rejection(), slots=len(videos))
        network, settings = self.tracker.network, self.tracker.settings
        runner: Any = GraphRunner(network, settings, len(videos), graphs=EmptyGraphs())
        self.tracker._runner = runner
        for slot, video in enumerate(videos):
            self.tracker.start(slot, video.frame(0), video.boxes[0])
        # Score, flag and iterations of normal frames.
        self._rows = torch.zeros(len(videos), 7, dtype=torch.float64)
        self._rows[:, 4], self._rows[:, 5] = 1, FLAGS.index("normal")
        nothing: Any = torch.zeros(1)
        outputs = TrackedStep(self._rows, nothing, nothing, nothing, nothing)
        runner._track_all = lambda *_: outputs
        runner._learn_all = lambda *_: runner._started().target.model

    def step(self, index: int) -> float:
        """Track frame ``index`` of all videos; return the seconds of processor time."""
        boxes = torch.stack([torch.from_numpy(video.boxes[index]) for video in self.videos])
        self._rows[:, :4] = boxes
        learning = self.tracker.settings.learning
        self._rows[:, 6] = learning.iterations if index % learning.interval == 0 else 0
        slots, frames = range(len(self.videos)), [video.frame(index) for video in self.videos]
        begin = time.process_time()
        self.tracker.step(slots, frames)
        return time.process_time() - begin


def measure(settings: Experiment) -> dict[str, dict[str, Any]]:
    """Return the milliseconds a frame, and of its parts, by number of videos."""
    length = 1 + settings.warmup + settings.frames
    synthetic = synthetic_sequences(NUM_VIDEOS, seed=0, settings=SyntheticSettings(settings.size, length=length))
    videos = [CachedSequence(each) for each in synthetic]
    for video in videos:
        for index in range(length):
            video.frame(index)
    rows: dict[str, dict[str, Any]] = {}
    with progress_bar(2 * len(settings.videos) * (length - 1), "tracking", "frame") as bar, torch.no_grad():
        for count in settings.videos:
            tracker = HostOnlyTracker([videos[number % NUM_VIDEOS] for number in range(count)], settings.width)
            seconds = []
            for index in range(1, length):
                seconds.append(tracker.step(index))
                bar.update()
            whole = 1000 * statistics.median(seconds[settings.warmup :])
            with stopwatch(tracker.tracker) as watch:
                parts = []
                for index in range(1, length):
                    watch.seconds.clear()
                    parts.append(split(tracker.step(index), watch.seconds))
                    bar.update()
            timed = parts[settings.warmup :]
            rows[str(count)] = {
                "milliseconds": round(whole, 3),
                "parts": {name: round(1000 * statistics.median(each[name] for each in timed), 3) for name in timed[0]},
            }
    return rows


@contextmanager
def stopwatch(tracker: BatchTracker) -> Iterator[Stopwatch]:
    """Time the parts of a frame."""
    watch, runner = Stopwatch(time.process_time), tracker._runner
    owners: list[tuple[Any, str, str]] = [
        (Windows, "taps", "interpolation taps"),
        (Windows, "__init__", "window positions"),
        (HostFrame, "numbers", "numbers of the frame"),
        (batch_tracker, "fill_missing_modality", "check images"),
        (runner, "track", "track"),
        (runner, "learn", "learn"),
    ]
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in owners]
    try:
        for owner, name, part in owners:
            watch.patch(owner, name, part)
        yield watch
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)


def split(frame: float, seconds: dict[str, float]) -> dict[str, float]:
    """Return the exclusive seconds of each part of a frame."""
    prepared = ("window positions", "interpolation taps", "numbers of the frame")
    parts = {name: seconds[name] for name in ("check images", *prepared)}
    parts["copy and upload windows; launch; read"] = seconds["track"] - sum(seconds[name] for name in prepared)
    return parts | {"other": frame - seconds["track"] - seconds["learn"] - seconds["check images"]}


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of milliseconds by part and number of videos."""
    rows, limits = report["rows"], report["limits"]
    names = list(next(iter(rows.values()))["parts"])
    counts = "".join(f" {count} |" for count in rows)
    lines = [f"| Part, ms |{counts}", "| --- |" + " ---: |" * len(rows)]
    for name in names:
        lines.append(f"| {name} |" + "".join(f" {row['parts'][name]:.2f} |" for row in rows.values()))
    lines.append("| **frame** |" + "".join(f" {row['milliseconds']:.2f} |" for row in rows.values()))
    return [*lines, "| limit |" + "".join(f" {limits.get(count, '')} |" for count in rows)]


def use_one_core() -> None:
    """Keep all threads of the process on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON report")
    parser.add_argument("--frames", type=int, default=Experiment.frames, help="timed frames; default 100")
    arguments = parser.parse_args()
    settings = replace(Experiment(), frames=arguments.frames)
    use_one_core()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    report = {
        "machine": machine(),
        "experiment": asdict(settings),
        "limits": {str(count): limit for count, limit in LIMITS.items()},
        "rows": measure(settings),
    }
    print("\n".join(table(report)))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
