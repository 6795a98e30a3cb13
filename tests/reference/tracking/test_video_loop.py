from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from mmdistill.pair import Pair
from mmdistill.reference.tracking.video_loop import follow
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import FramePair, Image
from mmdistill.toolkit.video.reading import ModalityReading, Reading, combine_modalities

BOX = np.array([10.0, 20.0, 30.0, 40.0])
PICTURE = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)


class FakeTracker:
    """Moves by a pixel each time it looks; remembers which modalities it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[bool, bool]] = []
        self.flag = "normal"
        self.box = BOX

    @property
    def score_map(self) -> NDArray[np.float32]:
        return np.full((19, 19), len(self.shown), np.float32)

    @property
    def search_area(self) -> Array | None:
        return np.array([1.0, 2, 3, 4])

    def init(self, frame: FramePair, box: ArrayLike) -> None:
        self.shown, self.box = [(frame.rgb is not None, frame.tir is not None)], np.asarray(box)

    def update(self, frame: FramePair) -> tuple[Array, float]:
        self.shown.append((frame.rgb is not None, frame.tir is not None))
        self.flag = "uncertain" if len(self.shown) == 3 else "normal"
        self.box = self.box + np.array([1, 0, 0, 0])
        return self.box, 0.75


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
    frames = list(follow(tracker, readings, BOX))
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

    frames = follow(FakeTracker(), readings(), BOX)
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
        list(follow(FakeTracker(), [first], BOX))
