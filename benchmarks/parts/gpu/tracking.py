"""A part of gpu_speed.py: frames a second of whole tracking, and where their time goes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from parts.gpu.experiment import Experiment
from parts.gpu.profile import device_profile
from parts.gpu.roofline import synchronize
from parts.no_rejection import no_rejection

from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.tracking import batch_tracker
from mmdistill.reference.tracking.batch_tracker import BatchTracker
from mmdistill.reference.tracking.tracker import track_batch
from mmdistill.toolkit.sequence import CachedSequence

DISTINCT = 4
"""How many videos are made; more are the same again, which costs memory once."""


class Tracking:
    """Tracks videos that are made once, when they are first asked for."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._videos: list[CachedSequence] = []

    def videos(self, count: int) -> list[CachedSequence]:
        """Return videos whose frames are all in memory."""
        experiment = self.experiment
        if not self._videos:
            size = (experiment.frame_width, experiment.frame_height)
            made = SyntheticSettings(size, length=1 + experiment.warmup + experiment.frames)
            self._videos = [CachedSequence(each) for each in synthetic_sequences(DISTINCT, seed=0, settings=made)]
            for video in self._videos:
                for index in range(len(video)):
                    video.frame(index)
        return [self._videos[number % DISTINCT] for number in range(count)]

    def rate(self, who: str, precision: str, count: int) -> dict[str, Any]:
        """Return frames a second, the median over the rounds, and what the crops take of it."""
        network, videos = self.experiment.network(who), self.videos(count)
        rates, crops, starts = [], [], []
        for _ in range(self.experiment.rounds):
            stamps: list[float] = []
            with self.experiment.autocast(precision), stopwatch(batch_tracker, "cut_pair", "stack") as cutting:
                tracked = track_batch(
                    network,
                    videos,
                    no_rejection(),
                    batch_size=count,
                    after_frame=lambda stamps=stamps: stamps.append(time.perf_counter()),  # type: ignore[misc]
                )
                synchronize(self.experiment.place)
                end = time.perf_counter()
            begin = stamps[count * (1 + self.experiment.warmup) - 1]
            rates.append(count * self.experiment.frames / (end - begin))
            crops.append(sum(took for when, took in cutting if when >= begin) / (end - begin))
            starts.append(statistics.median(float(each.seconds[0]) for each in tracked))
        return {
            "frames a second": statistics.median(rates),
            "slowest and fastest": [min(rates), max(rates)],
            "share of crops on the host": statistics.median(crops),
            "milliseconds of a start": 1000 * statistics.median(starts),
        }

    def profile(self, count: int) -> dict[str, Any]:
        """Return where the time of a tracked frame goes."""
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
                step, self.experiment.place, calls=min(20, self.experiment.frames), seconds=self.experiment.seconds
            )


@contextmanager
def stopwatch(owner: Any, *names: str) -> Iterator[list[tuple[float, float]]]:
    """Note when each call of some functions of a module began, and the seconds it took."""
    noted: list[tuple[float, float]] = []
    originals = {name: getattr(owner, name) for name in names}

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **options)
            noted.append((start, time.perf_counter() - start))
            return result

        return call

    for name, function in originals.items():
        setattr(owner, name, timed(function))
    try:
        yield noted
    finally:
        for name, function in originals.items():
            setattr(owner, name, function)
