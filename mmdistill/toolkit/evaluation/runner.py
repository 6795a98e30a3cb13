"""Running a tracker over sequences: what a tracker is, and a run that survives interruption.

Tracking sequences in several processes at once, for machines with many cores and no GPU.

What a tracker made of a whole sequence.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Thread
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from mmdistill.toolkit.box_files import read_boxes, write_boxes
from mmdistill.toolkit.boxes import Array, check_initial_box
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.sequence import Boxes, FramePair, TrackingSequence


@dataclass(frozen=True)
class TrackedSequence:
    """What a tracker made of a sequence of ``T`` frames.

    Attributes:
        boxes: ``(T, 4)`` as ``x y w h``, pixels; the first is the given one.
        scores: ``(T,)``, the tracker's own confidence; 1 for the first frame.
        seconds: ``(T,)``, how long the tracker took per frame, without reading it.
    """

    boxes: Boxes
    scores: Array
    seconds: Array

    @property
    def frames_per_second(self) -> float:
        """Frames tracked per second, without reading them and without the first."""
        return float((len(self.seconds) - 1) / max(self.seconds[1:].sum(), 1e-9))


_logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Follows one target through one video; boxes are ``(4,)`` as ``x y w h``, pixels."""

    def init(self, frame: FramePair, box: Array, /) -> None:
        """Start on the first frame with the target's box; forgets any earlier video."""
        ...

    def update(self, frame: FramePair, /) -> tuple[ArrayLike, float]:
        """Return the target's box in the next frame, and how sure the tracker is of it."""
        ...


def run_sequence(
    tracker: Tracker, sequence: TrackingSequence, *, after_frame: Callable[[], object] = lambda: None
) -> TrackedSequence:
    """Track a sequence from its first box to its last frame; a frame without any image keeps the last box.

    Args:
        tracker: any tracker.
        sequence: its first frame must have a label.
        after_frame: called after each frame, to show progress.

    Raises:
        DataError: no frames, or a first box that nobody could start from.
    """
    if len(sequence) == 0:
        raise DataError(f"sequence {sequence.name}: expected frames, got none")
    first = sequence.frame(0)
    height, width = next((image.shape[:2] for image in first if image is not None), (0, 0))
    initial = check_initial_box(sequence.boxes[0], width, height, where=f"sequence {sequence.name}")
    boxes, scores, seconds = np.empty((len(sequence), 4)), np.ones(len(sequence)), np.empty(len(sequence))

    start = time.perf_counter()
    tracker.init(first, initial)
    boxes[0], seconds[0] = initial, time.perf_counter() - start
    after_frame()
    for index in range(1, len(sequence)):
        frame = sequence.frame(index)
        start = time.perf_counter()
        if all(image is None for image in frame):
            boxes[index], scores[index] = boxes[index - 1], 0.0
        else:
            boxes[index], scores[index] = tracker.update(frame)
        seconds[index] = time.perf_counter() - start
        after_frame()
    return TrackedSequence(boxes, scores, seconds)


Run = Callable[[Sequence[TrackingSequence], Callable[[], object]], Iterator[tuple[int, TrackedSequence]]]
"""Tracks sequences, calls what it is given after each frame, and yields each sequence's number and track as it ends."""


def one_by_one(tracker: Tracker) -> Run:
    """Return a run of a tracker over one sequence after the other."""

    def run(
        sequences: Sequence[TrackingSequence], after_frame: Callable[[], object]
    ) -> Iterator[tuple[int, TrackedSequence]]:
        for number, sequence in enumerate(sequences):
            yield number, run_sequence(tracker, sequence, after_frame=after_frame)

    return run


def run_benchmark(
    run: Run,
    sequences: Sequence[TrackingSequence],
    out_folder: str | Path,
    *,
    how: str = "",
    progress: bool = True,
) -> dict[str, Boxes]:
    """Track every sequence and write each result as soon as it is there; called again, it goes on from there.

    The longest sequences come first, so that none is left over at the end while everything else is idle. A sequence is
    done when ``<name>.txt`` holds a box for each of its frames. ``<name>.json`` beside it keeps seconds and scores per
    frame.

    Args:
        run: how: ``one_by_one(tracker)`` for any tracker, or many sequences together.
        sequences: the benchmark.
        out_folder: where results are written and looked for; one tracker's own.
        how: the run in words, kept with the times.
        progress: whether to show a progress bar.

    Returns:
        For each sequence's name the boxes ``(T, 4)``.

    Raises:
        DataError: a sequence that can't be tracked; those before it are on disk.
    """
    paths = [Path(out_folder) / f"{sequence.name}.txt" for sequence in sequences]
    found = [_finished(path, len(sequence)) for path, sequence in zip(paths, sequences, strict=True)]
    missing = [number for number, boxes in enumerate(found) if boxes is None]
    missing.sort(key=lambda number: -len(sequences[number]))
    with progress_bar(sum(len(sequences[i]) for i in missing), "tracking", "frame", quiet=not progress) as bar:
        for place, tracked in run([sequences[i] for i in missing], bar.update):
            number = missing[place]
            path = paths[number]
            _write_times(path.with_suffix(".json"), tracked, how)
            write_boxes(path, tracked.boxes, decimals=3)
            found[number] = read_boxes(path)
            bar.set_description(f"{sum(boxes is not None for boxes in found)} of {len(sequences)} sequences")
    return {sequence.name: boxes for sequence, boxes in zip(sequences, found, strict=True) if boxes is not None}


def _finished(path: Path, frames: int) -> Boxes | None:
    """Return the boxes of an earlier run, or None where there are none that fit."""
    if not path.exists():
        return None
    try:
        boxes = read_boxes(path)
    except DataError as error:
        _logger.warning("%s; tracking again", error)
        return None
    if len(boxes) != frames:
        _logger.warning("%s: %d boxes for %d frames; tracking again", path, len(boxes), frames)
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


def in_processes(make: Callable[[], Run], workers: int) -> Run:
    """Return a run that tracks each sequence in one of several processes, which gives the same boxes.

    Args:
        make: called once in each process; what it returns tracks there, a sequence at a time. It is sent to new
            processes, as the sequences are, so that both must be picklable.
        workers: how many processes.
    """

    def run(
        sequences: Sequence[TrackingSequence], after_frame: Callable[[], object]
    ) -> Iterator[tuple[int, TrackedSequence]]:
        if not sequences:
            return
        context = get_context("spawn")  # a forked process would inherit torch's threads in any state
        ticks: SimpleQueue[bool] = context.SimpleQueue()
        stop = context.Event()
        counter = Thread(target=_count, args=(ticks, after_frame), daemon=True)
        counter.start()
        pool = ProcessPoolExecutor(min(workers, len(sequences)), context, _begin, (make, ticks, stop))
        try:
            numbers = {pool.submit(_track, sequence): number for number, sequence in enumerate(sequences)}
            for done in as_completed(numbers):
                yield numbers[done], done.result()
        except BrokenProcessPool as error:
            raise DataError(
                f"--workers: one of {workers} processes ended without a word; fewer need less memory"
            ) from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            ticks.put(False)
            counter.join()

    return run


class _Worker:
    """What a process keeps between sequences."""

    run: Run
    ticks: SimpleQueue[bool]
    stop: Event


def _begin(make: Callable[[], Run], ticks: SimpleQueue[bool], stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    logging.basicConfig(level=logging.WARNING, format="mmdistill: %(message)s")
    Thread(target=_end_with_the_parent, daemon=True).start()
    _Worker.run, _Worker.ticks, _Worker.stop = staticmethod(make()), ticks, stop


def _end_with_the_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _track(sequence: TrackingSequence) -> TrackedSequence:
    def after_frame() -> None:
        if _Worker.stop.is_set():
            raise KeyboardInterrupt
        _Worker.ticks.put(True)

    [(_, tracked)] = _Worker.run([sequence], after_frame)
    return tracked


def _count(ticks: SimpleQueue[bool], after_frame: Callable[[], object]) -> None:
    while ticks.get():
        after_frame()
