"""Following a target through a video whose frames may lack a modality, or both."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.drawing import ResponseMap
from mmdistill.toolkit.sequence import FramePair
from mmdistill.toolkit.video import Reading


class VisibleTracker(Protocol):
    """A tracker that shows what it saw; see ``ReferenceTracker``."""

    @property
    def score_map(self) -> NDArray[np.floating[Any]]:
        """The last frame's scores ``(H', W')``."""
        ...

    @property
    def search_area(self) -> Array | None:
        """What they cover, ``(4,)`` as ``x y w h``, image pixels; None after ``init``."""
        ...

    @property
    def flag(self) -> str:
        """What was made of them."""
        ...

    def init(self, frame: FramePair, box: ArrayLike, /) -> None:
        """Start a video."""
        ...

    def update(self, frame: FramePair, /) -> tuple[Array, float]:
        """Return the target's box in the next frame, and the score there."""
        ...


class TrackedFrame(NamedTuple):
    """What came of one frame.

    Attributes:
        number: the frame's, from 1.
        reading: the frame.
        box: ``(4,)`` as ``x y w h``, pixels.
        score: the tracker's; 1 in the first frame, 0 where it did not look.
        flag: the tracker's; ``initial`` in the first frame, ``skipped`` where no image showed anything and the last box
            was kept.
        seconds: how long the tracker took.
        response: what the tracker saw; None in the first frame and where it did not look.
    """

    number: int
    reading: Reading
    box: Array
    score: float
    flag: str
    seconds: float
    response: ResponseMap | None = None


def follow(tracker: VisibleTracker, readings: Iterable[Reading], box: Array) -> Iterator[TrackedFrame]:
    """Follow a target, frame by frame, and yield what came of each.

    A frame without one modality is tracked on the other; without both it keeps the last box, and the tracker goes on
    from there in the next.

    Args:
        tracker: is started on the first frame.
        readings: the video.
        box: the target in the first frame, ``(4,)`` as ``x y w h``, pixels.

    Raises:
        DataError: the first frame shows nothing, or reading one failed.
    """
    for number, reading in enumerate(readings, start=1):
        start = time.perf_counter()
        if number == 1:
            check_first(reading)
            tracker.init(reading.images, box)
            score, flag, response = 1.0, "initial", None
        elif reading.usable:
            box, score = tracker.update(reading.images)
            flag, area = tracker.flag, tracker.search_area
            response = None if area is None else ResponseMap(tracker.score_map, area)
        else:
            yield TrackedFrame(number, reading, box, 0.0, "skipped", 0.0)
            continue
        yield TrackedFrame(number, reading, box, score, flag, time.perf_counter() - start, response)


def check_first(reading: Reading) -> None:
    """Refuse a first frame that shows nothing.

    Raises:
        DataError: it does.
    """
    if not reading.usable:
        reason = reading.problem or f"RGB is {reading.states.rgb}, TIR is {reading.states.tir}"
        raise DataError(f"frame 1: expected an image that shows the target; {reason}")
