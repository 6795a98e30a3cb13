"""Running a tracker over sequences: what a tracker is, and a run that survives interruption."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from mmdistill.reference.data.box_files import read_boxes, write_boxes
from mmdistill.reference.data.boxes import Array, check_initial
from mmdistill.reference.data.sequence import Boxes, FramePair, TrackingSequence
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import write_text
from mmdistill.reference.progress import progress_bar
from mmdistill.reference.tracking.tracked import TrackedSequence

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
    initial = check_initial(sequence.boxes[0], width, height, where=f"sequence {sequence.name}")
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
