"""Speed of the whole tracker, and the profile of a tracked frame."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from parts.gpu.experiment import Experiment
from parts.gpu.profile import device_profile
from parts.gpu.roofline import synchronize
from parts.timing import no_rejection, record_calls

from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.tracking import runners
from mmdistill.reference.tracking.batch_tracker import BatchTracker
from mmdistill.reference.tracking.frame_inputs import Windows
from mmdistill.reference.tracking.tracker import track_batch
from mmdistill.toolkit.sequence import CachedSequence

NUM_VIDEOS = 4
"""Number of different videos; larger batches repeat them, which saves memory."""

ROUNDS_LIMIT = 15.0
"""No further round of a row starts after this many seconds."""


@contextmanager
def without_graphs() -> Iterator[None]:
    """Let trackers run without CUDA graphs inside."""
    original = BatchTracker.GPU_RUNNER
    BatchTracker.GPU_RUNNER = runners.StepRunner
    try:
        yield
    finally:
        BatchTracker.GPU_RUNNER = original


class TrackingSpeed:
    """Measures tracking on synthetic videos that are made once."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._videos: list[CachedSequence] = []

    def videos(self, count: int) -> list[CachedSequence]:
        """Return videos with all frames in memory."""
        experiment = self.experiment
        if not self._videos:
            size = (experiment.frame_width, experiment.frame_height)
            settings = SyntheticSettings(size, length=1 + experiment.warmup + experiment.frames)
            self._videos = [CachedSequence(each) for each in synthetic_sequences(NUM_VIDEOS, seed=0, settings=settings)]
            for video in self._videos:
                for index in range(len(video)):
                    video.frame(index)
        return [self._videos[number % NUM_VIDEOS] for number in range(count)]

    def rate(self, name: str, precision: str, count: int, captured: bool = True) -> dict[str, Any]:
        """Return frames per second, the time share of crops, and the milliseconds of the first frame.

        Args:
            name: ``"student"`` or ``"teacher"``.
            precision: ``"float32"`` or ``"bfloat16"``.
            count: videos per batch.
            captured: whether a GPU replays CUDA graphs.
        """
        network, videos = self.experiment.network(name), self.videos(count)
        rates: list[float] = []
        crops: list[float] = []
        starts: list[float] = []
        begin_rounds = time.perf_counter()
        while len(rates) < self.experiment.rounds:
            stamps: list[float] = []
            with ExitStack() as stack:
                stack.enter_context(self.experiment.autocast(precision))
                stack.enter_context(nullcontext() if captured else without_graphs())
                calls = [
                    stack.enter_context(record_calls(runners, "cut_crops")),
                    stack.enter_context(record_calls(Windows, "copy_to")),
                ]
                tracked = track_batch(
                    network,
                    videos,
                    no_rejection(),
                    batch_size=count,
                    after_frame=lambda stamps=stamps: stamps.append(time.perf_counter()),  # type: ignore[misc]
                )
                synchronize(self.experiment.torch_device)
                end = time.perf_counter()
            begin = stamps[count * (1 + self.experiment.warmup) - 1]
            rates.append(count * self.experiment.frames / (end - begin))
            crops.append(sum(seconds for each in calls for start, seconds in each if start >= begin) / (end - begin))
            starts.append(statistics.median(float(each.seconds[0]) for each in tracked))
            if end - begin_rounds > ROUNDS_LIMIT:
                break
        return {
            "frames per second": statistics.median(rates),
            "slowest and fastest": [min(rates), max(rates)],
            "rounds": len(rates),
            "share of crops on the host": statistics.median(crops),
            "milliseconds of the first frame": 1000 * statistics.median(starts),
        }

    def profile(self, count: int) -> dict[str, Any]:
        """Return the profile of a tracked frame."""
        videos = self.videos(count)
        tracker = BatchTracker(self.experiment.network("student"), no_rejection(), slots=count)
        slots, numbers = list(range(count)), iter(range(10**9))

        def step() -> None:
            index = 1 + next(numbers) % (len(videos[0]) - 1)
            tracker.step(slots, [video.frame(index) for video in videos])

        with self.experiment.autocast("bfloat16"):
            for slot, video in enumerate(videos):
                tracker.start(slot, video.frame(0), video.boxes[0])
            return device_profile(
                step,
                self.experiment.torch_device,
                calls=min(20, self.experiment.frames),
                seconds=self.experiment.seconds,
            )
