"""Running a tracker over sequences: what a tracker is, and a run that survives interruption."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

_logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Follows one target through one video; boxes are ``(4,)`` as ``x y w h``, pixels."""

    def init(self, frame: FramePair, box: Array, /) -> None:
        """Start on the first frame with the target's box; forgets any earlier video."""
        ...

    def update(self, frame: FramePair, /) -> tuple[ArrayLike, float]:
        """Return the target's box in the next frame, and how sure the tracker is of it."""
        ...


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


def run_sequence(
    tracker: Tracker, sequence: TrackingSequence, *, after_frame: Callable[[], object] = lambda: None
) -> TrackedSequence:
    """Track a sequence from its first box to its last frame.

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
        boxes[index], scores[index] = tracker.update(frame)
        seconds[index] = time.perf_counter() - start
        after_frame()
    return TrackedSequence(boxes, scores, seconds)


def run_benchmark(
    tracker: Tracker,
    sequences: Sequence[TrackingSequence],
    out_folder: str | Path,
    *,
    progress: bool = True,
) -> dict[str, Boxes]:
    """Track every sequence and write each result as soon as it is there; called again, it goes on from there.

    A sequence is done when ``<name>.txt`` holds a box for each of its frames. ``<name>.json`` beside it keeps
    seconds and scores per frame.

    Args:
        tracker: any tracker.
        sequences: the benchmark.
        out_folder: where results are written and looked for; one tracker's own.
        progress: whether to show a progress bar.

    Returns:
        For each sequence's name the boxes ``(T, 4)``.

    Raises:
        DataError: a sequence that can't be tracked; those before it are on disk.
    """
    out_folder = Path(out_folder)
    results: dict[str, Boxes] = {}
    with progress_bar(sum(map(len, sequences)), "tracking", "frame", show=progress) as bar:
        for sequence in sequences:
            bar.set_description(sequence.name)
            path = out_folder / f"{sequence.name}.txt"
            finished = _finished(path, len(sequence))
            if finished is None:
                tracked = run_sequence(tracker, sequence, after_frame=bar.update)
                _write_times(path.with_name(f"{sequence.name}.json"), tracked)
                write_boxes(path, tracked.boxes, decimals=3)
                finished = read_boxes(path)
            else:
                bar.total -= len(sequence)
                bar.refresh()
            results[sequence.name] = finished
    return results


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


def _write_times(path: Path, tracked: TrackedSequence) -> None:
    content = {
        "frames_per_second": round(tracked.frames_per_second, 2),
        "seconds": [round(float(value), 6) for value in tracked.seconds],
        "scores": [round(float(value), 6) for value in tracked.scores],
    }
    write_text(path, json.dumps(content) + "\n")
