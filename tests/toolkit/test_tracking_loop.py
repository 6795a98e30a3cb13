from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import ArrayLike

from mmdistill.pair import Pair
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.drawing import ResponseMap
from mmdistill.toolkit.sequence import FramePair, Image
from mmdistill.toolkit.tracking_loop import Result, Video, track_video, track_videos
from mmdistill.toolkit.video.reading import ModalityReading, Reading, combine_modalities

BOX = np.array([10.0, 20.0, 30.0, 40.0])
PICTURE = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)


class FakeTracker:
    """Moves by a pixel each time it looks; remembers which modalities it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[bool, bool]] = []
        self.box = BOX

    @property
    def response(self) -> ResponseMap | None:
        return ResponseMap(np.full((19, 19), len(self.shown), np.float32), np.array([1.0, 2, 3, 4]))

    def init(self, frame: FramePair, box: ArrayLike) -> None:
        self.shown, self.box = [(frame.rgb is not None, frame.tir is not None)], np.asarray(box)

    def update(self, frame: FramePair) -> tuple[Array, float, str]:
        self.shown.append((frame.rgb is not None, frame.tir is not None))
        self.box = self.box + np.array([1, 0, 0, 0])
        return self.box, 0.75, "uncertain" if len(self.shown) == 3 else "normal"


def reading(rgb: str, tir: str, problem: str = "") -> Reading:
    def image(state: str) -> Image | None:
        return {"seen": PICTURE, "black": np.zeros_like(PICTURE)}.get(state)

    looks = Pair(*(ModalityReading(image(state), state, problem if state == "broken" else "") for state in (rgb, tir)))  # type: ignore[arg-type]
    return combine_modalities(looks, lambda frame: frame)


def test_frames_without_a_modality_are_tracked_on_the_other() -> None:
    tracker = FakeTracker()
    readings = [
        reading("seen", "seen"),
        reading("seen", "missing"),
        reading("black", "seen"),
        reading("broken", "seen", "57.png: broken"),
        reading("missing", "black"),
        reading("broken", "missing", "60.png: broken"),
        reading("seen", "seen"),
    ]
    frames = list(track_video(tracker, readings, BOX))
    assert tracker.shown == [(True, True), (True, False), (False, True), (False, True), (True, True)]
    assert [frame.number for frame in frames] == [1, 2, 3, 4, 5, 6, 7]
    assert [frame.flag for frame in frames] == [
        *("initial", "normal", "uncertain", "normal", "skipped", "skipped", "normal")
    ]
    assert [frame.box[0] for frame in frames] == [10, 11, 12, 13, 13, 13, 14], "what is skipped keeps the last box"
    assert [frame.score for frame in frames] == [1.0, 0.75, 0.75, 0.75, 0.0, 0.0, 0.75]
    assert [frame.response is not None for frame in frames] == [False, True, True, True, False, False, True]
    assert [frame.seconds > 0 for frame in frames] == [True, True, True, True, False, False, True]
    assert frames[-1].response is not None
    assert frames[-1].response.scores[0, 0] == 5


def test_frames_come_one_at_a_time() -> None:
    read: list[int] = []

    def readings() -> Iterator[Reading]:
        for index in range(5):
            read.append(index)
            yield reading("seen", "seen")

    frames = track_video(FakeTracker(), readings(), BOX)
    next(frames)
    assert read == [0]


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (reading("black", "absent"), "frame 1: expected an image that shows the target; RGB is black, TIR is absent"),
        (reading("broken", "absent", "1.png: cut off"), "frame 1: .*; 1.png: cut off"),
    ],
)
def test_a_first_frame_that_shows_nothing(first: Reading, says: str) -> None:
    with pytest.raises(DataError, match=says):
        list(track_video(FakeTracker(), [first], BOX))


def test_any_tracker_will_do() -> None:
    class Still:
        def init(self, _: FramePair, box: ArrayLike) -> None:
            self.box = np.asarray(box)

        def update(self, _: FramePair) -> tuple[list[float], float]:
            return self.box.tolist(), 0.5

    frames = list(track_video(Still(), [reading("seen", "seen")] * 2, BOX))
    assert [frame.flag for frame in frames] == ["initial", "normal"]
    assert [frame.response for frame in frames] == [None, None]
    np.testing.assert_array_equal(frames[1].box, BOX)


def test_a_tracker_that_changes_its_box_does_not_change_results() -> None:
    class InPlace:
        def init(self, _: FramePair, box: Array) -> None:
            self.box = box

        def update(self, _: FramePair) -> tuple[Array, float]:
            self.box += 1
            return self.box, 0.5

    states = ["seen", "seen", "missing", "seen"]
    frames = list(track_video(InPlace(), [reading(state, "missing") for state in states], BOX))
    assert [frame.box[0] for frame in frames] == [10, 11, 11, 12]


class FakeBatchTracker:
    """Keeps the boxes; remembers which slots advanced together."""

    slots = 2

    def __init__(self) -> None:
        self.steps: list[list[int]] = []
        self.boxes: dict[int, Array] = {}

    def start(self, slot: int, _: FramePair, box: Array, *, where: str) -> None:  # noqa: ARG002
        self.boxes[slot] = box

    def step(self, slots: Sequence[int], _: Sequence[FramePair], *, where: Sequence[str]) -> list[Result]:
        assert len(where) == len(slots)
        self.steps.append(list(slots))
        return [Result(self.boxes[slot], 0.5) for slot in slots]


def test_a_video_starts_where_one_ended() -> None:
    def video(name: str, *states: str) -> Video:
        return Video([reading(state, "missing") for state in states], BOX, name, first_number=3)

    tracker = FakeBatchTracker()
    videos = [video("a", *["seen"] * 4), video("b", "seen"), video("c", "seen", "missing", "seen")]
    frames = list(track_videos(tracker, videos))
    assert [(frame.video, frame.number) for frame in frames] == [
        *((0, 3), (1, 3)),
        *((0, 4), (2, 3)),
        *((0, 5), (2, 4)),
        *((0, 6), (2, 5)),
    ]
    assert tracker.steps == [[0], [0], [0, 1]]
    with pytest.raises(DataError, match=r"^d, frame 3: expected an image that shows the target; RGB is black"):
        list(track_videos(tracker, [video("d", "black")]))
    with pytest.raises(DataError, match=r"^e: expected frames, got none$"):
        list(track_videos(tracker, [video("e")]))
