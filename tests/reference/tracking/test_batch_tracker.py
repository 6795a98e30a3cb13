from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from drawn_target import network

from mmdistill import Pair
from mmdistill.reference.models.config import single_settings, student_settings
from mmdistill.reference.tracking.batch_tracker import BatchTracker
from mmdistill.reference.tracking.settings import PUBLISHED_ATOM, LocalizationSettings, TrackingSettings
from mmdistill.reference.tracking.tracker import Tracker, track_batch
from mmdistill.toolkit.boxes import intersection_over_union
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.runner import track_sequences
from mmdistill.toolkit.sequence import FramePair

# An untrained network's scores are low, and its filter is due soon here: everything happens, and at different times.
SETTINGS = TrackingSettings(localization=LocalizationSettings(not_found=0.02))
SETTINGS = replace(SETTINGS, learning=replace(SETTINGS.learning, interval=3, memory=18))
NETWORKS = {
    "student": (student_settings(width=4, crop_size=80), SETTINGS),
    "tir": (single_settings("tir", width=4, crop_size=96), SETTINGS),
    "atom": (
        single_settings("rgb", width=4, crop_size=96, classifier="atom"),
        replace(PUBLISHED_ATOM, learning=replace(PUBLISHED_ATOM.learning, interval=3, memory=18)),
    ),
}


class Clip:
    """A bright box that moves over noise; ``missing`` frames have no TIR image, or none at all."""

    def __init__(
        self, number: int, frames: int, size: tuple[int, int], missing: Sequence[int] = (), *, empty: bool = False
    ) -> None:
        self.empty = empty
        self.name, self.number, self.size, self.missing = f"clip {number}", number, size, missing
        step = np.array([2.0 + number, 1, 0, 0])
        self.boxes = np.array([20.0, 15 + 3 * number, 18 + 2 * number, 16]) + np.arange(frames)[:, None] * step
        self.attributes: dict[str, np.ndarray] = {}
        self._drawn = self.boxes.astype(int)

    def __len__(self) -> int:
        return len(self.boxes)

    def frame(self, index: int) -> FramePair:
        width, height = self.size
        generator = np.random.default_rng(100 * self.number + index)
        images = generator.integers(0, 60, (2, height, width, 3), dtype=np.uint8)
        x, y, w, h = self._drawn[index]
        images[:, y : y + h, x : x + w] = 140
        images[:, y + 2 : y + h - 2 : 4, x + 2 : x + w - 2] = 255
        if index in self.missing:
            return Pair(None if self.empty else images[0], None)
        return Pair(*images)


CLIPS = [
    Clip(0, 12, (120, 90)),
    Clip(1, 7, (160, 120), missing=[3]),
    Clip(2, 1, (100, 90)),
    Clip(3, 14, (90, 140)),
    Clip(4, 9, (200, 100)),
]


@pytest.mark.parametrize("batch_size", [pytest.param(5, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_each_video_gives_the_same_boxes_as_alone(name: str, batch_size: int) -> None:
    settings, tracking = NETWORKS[name]
    tracked = network(settings)
    alone = Tracker(tracked, tracking, seed=5)
    batch = track_batch(tracked, CLIPS, tracking, batch_size=batch_size, seed=5)
    for index, expected in track_sequences(alone, CLIPS):
        got = batch[index]
        assert intersection_over_union(got.boxes, expected.boxes).min() > 0.999
        np.testing.assert_allclose(got.scores, expected.scores, atol=1e-4)


def test_what_is_compared_is_worth_comparing() -> None:
    tracker, flags = Tracker(network(NETWORKS["student"][0]), SETTINGS, seed=5), set()
    for clip in CLIPS:
        tracker.init(clip.frame(0), clip.boxes[0])
        for index in range(1, len(clip)):
            flags.add(tracker.update(clip.frame(index)).flag)
    assert flags >= {"hard_negative", "uncertain"}


def test_videos_may_start_late() -> None:
    tracked = network(NETWORKS["student"][0])
    start_frames = [3, 0, 0, 13, 5]
    batch = track_batch(tracked, CLIPS, SETTINGS, start_frames=start_frames, batch_size=3)
    alone = Tracker(tracked, SETTINGS)
    for clip, start, got in zip(CLIPS, start_frames, batch, strict=True):
        assert np.isnan(got.boxes[:start]).all()
        np.testing.assert_array_equal(got.boxes[start], clip.boxes[start])
        alone.init(clip.frame(start), clip.boxes[start])
        for index in range(start + 1, len(clip)):
            expected = alone.update(clip.frame(index)).box
            assert intersection_over_union(got.boxes[index], expected) > 0.999


def test_every_frame_is_counted() -> None:
    calls: list[None] = []
    track_batch(network(NETWORKS["tir"][0]), CLIPS, SETTINGS, after_frame=lambda: calls.append(None))
    assert len(calls) == sum(map(len, CLIPS))


def test_no_videos_are_no_work() -> None:
    assert track_batch(network(NETWORKS["tir"][0]), []) == []


class Broken(Clip):
    def frame(self, index: int) -> FramePair:
        if index == 5:
            raise DataError("broken.png: the image is cut off")
        return super().frame(index)


def test_a_broken_frame_keeps_the_last_box_if_one_says_so(caplog: pytest.LogCaptureFixture) -> None:
    tracked = network(NETWORKS["tir"][0])
    clips = [CLIPS[0], Broken(1, 9, (120, 90)), Clip(2, 9, (120, 90), missing=[4], empty=True)]
    got, broken, empty = track_batch(tracked, clips, SETTINGS, on_broken="skip")
    np.testing.assert_array_equal(broken.boxes[5], broken.boxes[4])
    np.testing.assert_array_equal(empty.boxes[4], empty.boxes[3])
    assert (broken.scores[5], empty.scores[4]) == (0, 0)
    assert "sequence clip 1, frame 6: broken.png: the image is cut off" in caplog.text
    (alone,) = track_batch(tracked, clips[:1], SETTINGS)
    assert intersection_over_union(got.boxes, alone.boxes).min() > 0.999


def test_bad_input_is_named() -> None:
    tracked = network(NETWORKS["tir"][0])
    with pytest.raises(DataError, match=r"^broken.png: the image is cut off$"):
        track_batch(tracked, [CLIPS[0], Broken(1, 9, (120, 90))], SETTINGS)
    with pytest.raises(DataError, match=r"^sequence clip 2: expected at least 5 frames, got 1$"):
        track_batch(tracked, CLIPS, SETTINGS, start_frames=[0, 0, 4, 0, 0])
    with pytest.raises(RuntimeError, match=r"expected a video in slot 1; call start first$"):
        BatchTracker(tracked, SETTINGS, slots=2).step([1], [CLIPS[0].frame(0)])
    with pytest.raises(ValueError, match=r"expected slots in ascending order, each once; got \[1, 0\]$"):
        BatchTracker(tracked, SETTINGS, slots=2).step([1, 0], [CLIPS[0].frame(0)] * 2)
    clip = Clip(7, 3, (120, 90))
    clip.boxes[0] = np.nan
    with pytest.raises(DataError, match=r"^sequence clip 7, frame 1: the initial box must be four finite numbers"):
        track_batch(tracked, [clip], SETTINGS)
