"""The tracker protocol, and the loop that tracks one video or several at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from mmdistill.pair import Pair
from mmdistill.toolkit.boxes import Array, check_initial_box
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.drawing import ResponseMap
from mmdistill.toolkit.sequence import FramePair
from mmdistill.toolkit.video.reading import Reading, State, drop_uncovered


class Result(NamedTuple):
    """A tracker's result for one frame.

    Attributes:
        box: ``(4,)`` as ``x y w h``, pixels.
        score: the tracker's confidence.
        flag: the reliability of the box: ``normal``, or a tracker's own word. ``not_found``: the target is lost.
    """

    box: Array
    score: float
    flag: str = "normal"


@runtime_checkable
class TrackerProtocol(Protocol):
    """The interface of any tracker of one target in one video.

    It may have a property ``response``, as ``RespondingTracker`` has; the loop adds it to each tracked frame.
    """

    def init(self, frame: FramePair, box: Array, /) -> None:
        """Start a video on its first frame, with the target's box ``(4,)`` as ``x y w h``, pixels."""
        ...

    def update(self, frame: FramePair, /) -> tuple[ArrayLike, float] | tuple[ArrayLike, float, str]:
        """Return box and score in the next frame, and optionally a flag, as in ``Result``."""
        ...


@runtime_checkable
class RespondingTracker(Protocol):
    """A tracker with a score map."""

    @property
    def response(self) -> ResponseMap | None:
        """The last frame's score map; None after ``init``."""
        ...


class BatchTrackerProtocol(Protocol):
    """The interface of a tracker of several videos at once.

    A slot is a position on its batch axis; it holds one video at a time.
    """

    @property
    def slots(self) -> int:
        """The number of slots."""
        ...

    def start(self, slot: int, frame: FramePair, box: Array, /, *, where: str) -> None:
        """Start a video in a slot; ``where`` names the frame in errors."""
        ...

    def step(self, slots: Sequence[int], frames: Sequence[FramePair], /, *, where: Sequence[str]) -> Sequence[Result]:
        """Return the results in the next frames of the videos in some slots, ascending."""
        ...


class Video(NamedTuple):
    """A video to track.

    Attributes:
        readings: its frames from the first tracked one on.
        box: the target in that frame, ``(4,)`` as ``x y w h``, pixels.
        name: named in errors.
        first_number: the number of that frame, from 1.
    """

    readings: Iterable[Reading]
    box: ArrayLike
    name: str = ""
    first_number: int = 1


class TrackedFrame(NamedTuple):
    """One frame and its result.

    Attributes:
        number: the frame's number, from 1.
        reading: the frame.
        box: ``(4,)`` as ``x y w h``, pixels.
        score: the tracker's; 1 in the first frame, 0 in a skipped one.
        flag: the tracker's. ``initial``: the first frame. ``skipped``: a frame without an image that shows anything; it
            keeps the last box.
        seconds: the tracker's time for this frame, without reading. A step of several videos is divided equally.
        response: the score map of a single tracker; None in the first frame and in a skipped one.
        video: the index of the video.
    """

    number: int
    reading: Reading
    box: Array
    score: float
    flag: str
    seconds: float
    response: ResponseMap | None = None
    video: int = 0


def track_video(tracker: TrackerProtocol, readings: Iterable[Reading], box: ArrayLike) -> Iterator[TrackedFrame]:
    """Track one video and yield each frame's result as soon as it is computed.

    Args:
        tracker: any tracker.
        readings: the frames.
        box: the target in the first frame, ``(4,)`` as ``x y w h``, pixels.

    Raises:
        DataError: no frames, an invalid first frame or box, or a frame that cannot be read.
    """
    responding = tracker if isinstance(tracker, RespondingTracker) else None
    for tracked in track_videos(as_batch(tracker), [Video(readings, box)]):
        if responding is None or tracked.flag in ("initial", "skipped"):
            yield tracked
        else:
            yield tracked._replace(response=responding.response)


def track_videos(tracker: BatchTrackerProtocol, videos: Iterable[Video]) -> Iterator[TrackedFrame]:
    """Track videos, as many at once as the tracker has slots, and yield each frame's result.

    When a video ends, the next one starts in its slot. The tracker handles a missing modality. A frame without an image
    that shows anything keeps the last box.

    Raises:
        DataError: a video without frames, with an invalid first frame or box, or with a frame that cannot be read.
    """
    waiting = enumerate(videos)
    active: dict[int, _ActiveVideo] = {}
    started = True
    while started or active:
        active = {slot: video for slot, video in active.items() if video.read()}
        started = False
        for slot in range(tracker.slots):
            if slot not in active and (following := next(waiting, None)) is not None:
                video = _ActiveVideo(*following)
                yield video.start(tracker, slot)
                started = True
                if video.read():
                    active[slot] = video
        yield from _step(tracker, dict(sorted(active.items())))


def _step(tracker: BatchTrackerProtocol, active: dict[int, _ActiveVideo]) -> Iterator[TrackedFrame]:
    """Track one frame of each active video."""
    slots = [slot for slot, video in active.items() if video.reading.usable]
    results: dict[int, Result] = {}
    seconds = 0.0
    if slots:
        videos = [active[slot] for slot in slots]
        start = time.perf_counter()
        step = tracker.step(slots, [video.reading.images for video in videos], where=[video.where for video in videos])
        seconds = (time.perf_counter() - start) / len(slots)
        results = dict(zip(slots, step, strict=True))
    for slot, video in active.items():
        if slot in results:
            yield video.tracked(results[slot], seconds)
        else:
            yield video.tracked(Result(video.box.copy(), 0.0, "skipped"), 0.0)


class _ActiveVideo:
    """A video that is being tracked: its next frame and its last box."""

    reading: Reading
    box: Array

    def __init__(self, index: int, video: Video) -> None:
        self._index, self._video, self._readings = index, video, iter(video.readings)
        self._number = video.first_number - 1
        self.box = np.asarray(video.box, dtype=np.float64)

    @property
    def where(self) -> str:
        frame = f"frame {self._number}"
        return f"{self._video.name}, {frame}" if self._video.name else frame

    def read(self) -> bool:
        """Read the next frame; return False at the end."""
        reading = next(self._readings, None)
        if reading is None:
            return False
        # The tracker replaces a TIR image that does not show the target, as any missing one.
        self.reading = drop_uncovered(reading, self.box) if reading.mask is not None else reading
        self._number += 1
        return True

    def start(self, tracker: BatchTrackerProtocol, slot: int) -> TrackedFrame:
        if not self.read():
            raise DataError(f"{self._video.name or 'video'}: expected frames, got none")
        check_first_frame(self.reading, self.where)
        height, width = next(image.shape[:2] for image in self.reading.images if image is not None)
        box = check_initial_box(self._video.box, width, height, where=self.where).copy()
        start = time.perf_counter()
        tracker.start(slot, self.reading.images, box.copy(), where=self.where)
        return self.tracked(Result(box, 1.0, "initial"), time.perf_counter() - start)

    def tracked(self, result: Result, seconds: float) -> TrackedFrame:
        self.box = result.box
        return TrackedFrame(self._number, self.reading, *result, seconds, video=self._index)


def check_first_frame(reading: Reading, where: str = "frame 1") -> None:
    """Refuse a first frame that shows nothing.

    Raises:
        DataError: no image of the frame shows anything.
    """
    if not reading.usable:
        reason = reading.problem or f"RGB is {reading.states.rgb}, TIR is {reading.states.tir}"
        raise DataError(f"{where}: expected an image that shows the target; {reason}")


def as_reading(frame: FramePair) -> Reading:
    """Return a frame of a sequence as a reading; an image of it is used whatever it shows."""
    states: Pair[State] = Pair(*("missing" if image is None else "seen" for image in frame))
    sizes = Pair(*(None if image is None else (image.shape[1], image.shape[0]) for image in frame))
    return Reading(frame, states, sizes)


class _OneSlot:
    """A tracker of one video as a batch tracker of one slot."""

    slots = 1

    def __init__(self, tracker: TrackerProtocol) -> None:
        self._tracker = tracker

    def start(self, _slot: int, frame: FramePair, box: Array, *, where: str) -> None:  # noqa: ARG002 (protocol)
        self._tracker.init(frame, box)

    def step(self, _slots: Sequence[int], frames: Sequence[FramePair], *, where: Sequence[str]) -> list[Result]:  # noqa: ARG002
        (frame,) = frames
        box, score, *flag = self._tracker.update(frame)
        return [Result(np.array(box, dtype=np.float64), float(score), *flag)]


def as_batch(tracker: TrackerProtocol | BatchTrackerProtocol) -> BatchTrackerProtocol:
    """Return a tracker as a batch tracker; one of a single video has one slot."""
    return _OneSlot(tracker) if isinstance(tracker, TrackerProtocol) else tracker
