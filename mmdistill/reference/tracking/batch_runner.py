"""Many videos on one machine: as many at once as there are slots; as one ends the next begins in its place.

What a network scores on sequences.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from mmdistill.pair import Pair
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.tracking.batch_tracker import BatchTracker
from mmdistill.reference.tracking.settings import TrackingSettings
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.metrics import score_sequences
from mmdistill.toolkit.evaluation.protocols import ScoringProtocol
from mmdistill.toolkit.evaluation.runner import TrackedSequence
from mmdistill.toolkit.evaluation.scores import BenchmarkScores
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.sequence import FramePair, TrackingSequence
from mmdistill.toolkit.video import OnBroken

logger = logging.getLogger(__name__)


def track_batch(
    network: TrackerNetwork,
    videos: Sequence[TrackingSequence],
    settings: TrackingSettings | None = None,
    *,
    starts: Sequence[int] | None = None,
    together: int = 16,
    seed: int = 0,
    on_broken: OnBroken = "stop",
    after_frame: Callable[[], object] = lambda: None,
) -> list[TrackedSequence]:
    """Track videos of any sizes and lengths together, frame by frame; each gives the same boxes as alone.

    Args:
        network: teacher, student, DiMP or ATOM.
        videos: each with a label in the frame where tracking starts.
        settings: the constants of tracking; the published ones of the network's kind if not given.
        starts: the frame of each video where tracking starts; the first if not given.
        together: how many at once.
        seed: of all that is random; every video's own.
        on_broken: stop: a frame that can't be read ends everything. skip: it is logged, and keeps the last box with
            score 0, as a frame without any image does.
        after_frame: called after each frame of each video, to show progress.

    Raises:
        DataError: a video without frames, without a box to start from, or with a frame that can't be read.
    """
    tracked = dict(
        each_tracked(
            network,
            videos,
            settings,
            starts=starts,
            together=together,
            seed=seed,
            on_broken=on_broken,
            after_frame=after_frame,
        )
    )
    return [tracked[number] for number in range(len(videos))]


def each_tracked(
    network: TrackerNetwork,
    videos: Sequence[TrackingSequence],
    settings: TrackingSettings | None = None,
    *,
    starts: Sequence[int] | None = None,
    together: int = 16,
    seed: int = 0,
    on_broken: OnBroken = "stop",
    after_frame: Callable[[], object] = lambda: None,
) -> Iterator[tuple[int, TrackedSequence]]:
    """Yield each video's number and what was made of it as soon as it ends; arguments as in ``track_batch``."""
    starts = starts or [0] * len(videos)
    for video, start in zip(videos, starts, strict=True):
        if not 0 <= start < len(video):
            raise DataError(
                f"sequence {video.name}: expected a frame {start} to start from, it has {len(video)} frames"
            )
    tracker = BatchTracker(network, settings, slots=max(1, min(together, len(videos))), seed=seed)
    slots = tracker.slots
    waiting = list(range(len(videos)))
    running: dict[int, _Run] = {}
    # Images are read while the network computes; decoding leaves Python's lock alone.
    with ThreadPoolExecutor(slots) as readers:
        while waiting or running:
            for slot in range(slots):
                if waiting and slot not in running:
                    number = waiting.pop(0)
                    running[slot] = _Run(number, videos[number], starts[number], readers, on_broken)
                    running[slot].begin(tracker, slot)
                    after_frame()
            active = sorted(slot for slot, run in running.items() if not run.finished)
            if active:
                _advance(tracker, active, [running[slot] for slot in active])
                for _ in active:
                    after_frame()
            for slot in sorted(running):
                if running[slot].finished:
                    run = running.pop(slot)
                    yield run.number, run.tracked()


def _advance(tracker: BatchTracker, slots: Sequence[int], runs: Sequence[_Run]) -> None:
    frames = [run.read() for run in runs]
    seen = [number for number, frame in enumerate(frames) if any(image is not None for image in frame)]
    for number in set(range(len(runs))) - set(seen):
        runs[number].append(runs[number].boxes[-1], 0.0, 0.0)
    if not seen:
        return
    start = time.perf_counter()
    where = [runs[number].where for number in seen]
    step = tracker.step([slots[number] for number in seen], [frames[number] for number in seen], where=where)
    each = (time.perf_counter() - start) / len(seen)
    for number, box, score in zip(seen, step.boxes, step.scores, strict=True):
        runs[number].append(box, float(score), each)


@dataclass
class _Run:
    """One video on its way."""

    number: int
    video: TrackingSequence
    start: int
    readers: ThreadPoolExecutor
    on_broken: OnBroken
    boxes: list[Array] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._next = self._reading(self.start)

    @property
    def where(self) -> str:
        return f"sequence {self.video.name}, frame {self.start + len(self.boxes) + 1}"

    @property
    def finished(self) -> bool:
        return self.start + len(self.boxes) == len(self.video)

    def begin(self, tracker: BatchTracker, slot: int) -> None:
        frame, box = self.read(), self.video.boxes[self.start]
        start = time.perf_counter()
        tracker.start(slot, frame, box, where=self.where)
        self.append(box, 1.0, time.perf_counter() - start)

    def read(self) -> FramePair:
        """Return the next frame, and have the one after it read."""
        try:
            frame = self._next.result()
        except DataError as error:
            if self.on_broken == "stop" or not self.boxes:
                raise
            logger.warning("%s: %s", self.where, error)
            frame = Pair(None, None)
        following = self.start + len(self.boxes) + 1
        if following < len(self.video):
            self._next = self._reading(following)
        return frame

    def append(self, box: Array, score: float, seconds: float) -> None:
        self.boxes.append(np.array(box, dtype=np.float64))
        self.scores.append(score)
        self.seconds.append(seconds)

    def tracked(self) -> TrackedSequence:
        """Frames before the start have no box, and took no time."""
        before = self.start
        return TrackedSequence(
            np.concatenate([np.full((before, 4), np.nan), np.stack(self.boxes)]),
            np.concatenate([np.zeros(before), self.scores]),
            np.concatenate([np.zeros(before), self.seconds]),
        )

    def _reading(self, index: int) -> Future[FramePair]:
        return self.readers.submit(self.video.frame, index)


def score_network(
    network: TrackerNetwork,
    sequences: Sequence[TrackingSequence],
    rule: ScoringProtocol,
    *,
    seed: int = 0,
    together: int = 8,
    title: str = "tracking",
    progress: bool = True,
) -> BenchmarkScores:
    """Return what a network scores on sequences; nothing is written.

    Args:
        network: any tracker's.
        sequences: what it tracks.
        rule: how it is scored.
        seed: of all that is random in tracking.
        together: how many sequences are tracked at once; the boxes are the same.
        title: what the progress bar calls it.
        progress: whether to show a progress bar.

    Raises:
        DataError: a sequence that can't be tracked.
    """
    with progress_bar(sum(map(len, sequences)), title, "frame", quiet=not progress) as bar:
        tracked = track_batch(network, sequences, together=together, seed=seed, after_frame=bar.update)
    boxes = {sequence.name: track.boxes for sequence, track in zip(sequences, tracked, strict=True)}
    return score_sequences(boxes, sequences, rule)
