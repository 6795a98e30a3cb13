"""Runs a tracker over sequences and benchmarks, in one process or several; an interrupted run can be continued."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Thread

import numpy as np

from mmdistill.pair import Pair
from mmdistill.toolkit.box_files import read_boxes, write_boxes
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.sequence import Boxes, TrackingSequence
from mmdistill.toolkit.tracking_loop import (
    BatchTrackerProtocol,
    TrackerProtocol,
    Video,
    as_batch,
    as_reading,
    track_videos,
)
from mmdistill.toolkit.video.reading import OnBroken, Reading

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedSequence:
    """A tracker's results on a sequence of ``T`` frames.

    Attributes:
        boxes: ``(T, 4)`` as ``x y w h``, pixels; the first is the initial box. NaN before the start frame.
        scores: ``(T,)``, the tracker's confidence; 1 for the first frame.
        seconds: ``(T,)``, the tracker's time per frame, without reading.
    """

    boxes: Boxes
    scores: Array
    seconds: Array

    @property
    def frames_per_second(self) -> float:
        """Frames per second of the tracker alone, without the first frame."""
        return float((len(self.seconds) - 1) / max(self.seconds[1:].sum(), 1e-9))


def track_sequences(
    tracker: TrackerProtocol | BatchTrackerProtocol,
    sequences: Sequence[TrackingSequence],
    after_frame: Callable[[], object] = lambda: None,
    *,
    start_frames: Sequence[int] | None = None,
    on_broken: OnBroken = "stop",
) -> Iterator[tuple[int, TrackedSequence]]:
    """Track each sequence from its first box to its last frame; yield index and results as each ends.

    Args:
        tracker: any tracker of one video, or of several at once.
        sequences: each with a label in its start frame.
        after_frame: called after each frame, to show progress.
        start_frames: the index of each sequence's first tracked frame; 0 by default.
        on_broken: stop: an unreadable frame raises its error. skip: it is logged and keeps the last box, score 0.

    Raises:
        DataError: no frames, an invalid initial box, or an unreadable frame.
    """
    starts = start_frames or [0] * len(sequences)
    for sequence, start in zip(sequences, starts, strict=True):
        if not 0 <= start < len(sequence):
            raise DataError(f"sequence {sequence.name}: expected at least {start + 1} frames, got {len(sequence)}")
    batch_tracker = as_batch(tracker)
    rows: dict[int, list[tuple[Array, float, float]]] = defaultdict(list)
    # Frames are read while the tracker computes: decoding releases Python's lock.
    with ThreadPoolExecutor(batch_tracker.slots) as readers:
        videos = (
            Video(
                _read_ahead(sequence, start, readers, on_broken),
                sequence.boxes[start],
                f"sequence {sequence.name}",
                start + 1,
            )
            for sequence, start in zip(sequences, starts, strict=True)
        )
        for frame in track_videos(batch_tracker, videos):
            after_frame()
            index, sequence = frame.video, sequences[frame.video]
            rows[index].append((frame.box, frame.score, frame.seconds))
            if frame.number == len(sequence):
                yield index, _tracked_sequence(rows.pop(index), starts[index])


def _read_ahead(
    sequence: TrackingSequence, start: int, readers: ThreadPoolExecutor, on_broken: OnBroken
) -> Iterator[Reading]:
    """Yield a sequence's frames; the next one is read in the meantime."""
    pending = readers.submit(sequence.frame, start)
    for index in range(start, len(sequence)):
        try:
            frame = pending.result()
        except DataError as error:
            if on_broken == "stop" or index == start:
                raise
            logger.warning("sequence %s, frame %d: %s", sequence.name, index + 1, error)
            frame = Pair(None, None)
        if index + 1 < len(sequence):
            pending = readers.submit(sequence.frame, index + 1)
        yield as_reading(frame)


def _tracked_sequence(rows: Sequence[tuple[Array, float, float]], start: int) -> TrackedSequence:
    boxes, scores, seconds = zip(*rows, strict=True)
    return TrackedSequence(
        np.concatenate([np.full((start, 4), np.nan), np.stack(boxes)]),
        np.concatenate([np.zeros(start), scores]),
        np.concatenate([np.zeros(start), seconds]),
    )


SequenceTracker = Callable[[Sequence[TrackingSequence], Callable[[], object]], Iterator[tuple[int, TrackedSequence]]]
"""Tracks sequences, calls its second argument after each frame, and yields index and results as each sequence ends.

``functools.partial(track_sequences, tracker)`` is one for any tracker.
"""


def run_benchmark(
    track: SequenceTracker,
    sequences: Sequence[TrackingSequence],
    out_folder: str | Path,
    *,
    how: str = "",
    progress: bool = True,
) -> dict[str, Boxes]:
    """Track every sequence and write each result as soon as it is complete; a repeated call continues the run.

    The longest sequences are tracked first, so that all slots and processes stay busy until the end. A sequence is
    complete when ``<name>.txt`` holds a box for each of its frames. ``<name>.json`` beside it holds seconds and scores
    per frame.

    Args:
        track: ``partial(track_sequences, tracker)`` for any tracker, or ``in_processes(...)``.
        sequences: the benchmark.
        out_folder: folder of this tracker's results, written and looked up.
        how: a description of the run, written beside the times.
        progress: whether to show a progress bar.

    Returns:
        The boxes ``(T, 4)`` by sequence name.

    Raises:
        DataError: a sequence that cannot be tracked; the results before it are written.
    """
    paths = [Path(out_folder) / f"{sequence.name}.txt" for sequence in sequences]
    results = [_read_complete(path, len(sequence)) for path, sequence in zip(paths, sequences, strict=True)]
    missing = [index for index, boxes in enumerate(results) if boxes is None]
    missing.sort(key=lambda index: -len(sequences[index]))
    with progress_bar(sum(len(sequences[i]) for i in missing), "tracking", "frame", quiet=not progress) as bar:
        for position, tracked in track([sequences[i] for i in missing], bar.update):
            index = missing[position]
            path = paths[index]
            _write_times(path.with_suffix(".json"), tracked, how)
            write_boxes(path, tracked.boxes, decimals=3)
            results[index] = read_boxes(path)
            bar.set_description(f"{sum(boxes is not None for boxes in results)} of {len(sequences)} sequences")
    return {sequence.name: boxes for sequence, boxes in zip(sequences, results, strict=True) if boxes is not None}


def _read_complete(path: Path, frames: int) -> Boxes | None:
    """Return the boxes of an earlier run, or None without a complete result."""
    if not path.exists():
        return None
    try:
        boxes = read_boxes(path)
    except DataError as error:
        logger.warning("%s; tracking again", error)
        return None
    if len(boxes) != frames:
        logger.warning("%s: %d boxes for %d frames; tracking again", path, len(boxes), frames)
        return None
    return boxes


def _write_times(path: Path, tracked: TrackedSequence, how: str) -> None:
    content = {
        "frames_per_second": round(tracked.frames_per_second, 2),
        **({"how": how} if how else {}),
        "seconds": [round(float(value), 6) for value in tracked.seconds],
        "scores": [round(float(value), 6) for value in tracked.scores],
    }
    write_text(path, json.dumps(content) + "\n")


def in_processes(make: Callable[[], SequenceTracker], workers: int) -> SequenceTracker:
    """Return a function that tracks sequences in several processes, one sequence at a time each.

    Args:
        make: called once in each process; returns the function that tracks there. Must be picklable, as the sequences.
        workers: number of processes.
    """

    def track(
        sequences: Sequence[TrackingSequence], after_frame: Callable[[], object]
    ) -> Iterator[tuple[int, TrackedSequence]]:
        if not sequences:
            return
        context = get_context("spawn")  # a forked process would inherit torch's threads in any state
        ticks: SimpleQueue[bool] = context.SimpleQueue()
        stop = context.Event()
        counter = Thread(target=_count, args=(ticks, after_frame), daemon=True)
        counter.start()
        pool = ProcessPoolExecutor(min(workers, len(sequences)), context, _start_worker, (make, ticks, stop))
        try:
            indices = {pool.submit(_track, sequence): index for index, sequence in enumerate(sequences)}
            for future in as_completed(indices):
                yield indices[future], future.result()
        except BrokenProcessPool as error:
            raise DataError(
                f"--workers: one of {workers} processes ended without an error message; fewer need less memory"
            ) from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            ticks.put(False)
            counter.join()

    return track


class _Worker:
    """The state of a process, kept between sequences."""

    track: SequenceTracker
    ticks: SimpleQueue[bool]
    stop: Event


def _start_worker(make: Callable[[], SequenceTracker], ticks: SimpleQueue[bool], stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process stops the workers
    logging.basicConfig(level=logging.WARNING, format="mmdistill: %(message)s")
    Thread(target=_exit_with_parent, daemon=True).start()
    _Worker.track, _Worker.ticks, _Worker.stop = staticmethod(make()), ticks, stop


def _exit_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _track(sequence: TrackingSequence) -> TrackedSequence:
    def after_frame() -> None:
        if _Worker.stop.is_set():
            raise KeyboardInterrupt
        _Worker.ticks.put(True)

    [(_, tracked)] = _Worker.track([sequence], after_frame)
    return tracked


def _count(ticks: SimpleQueue[bool], after_frame: Callable[[], object]) -> None:
    while ticks.get():
        after_frame()
