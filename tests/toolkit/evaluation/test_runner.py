from __future__ import annotations

import io
import json
import logging
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mmdistill.pair import Pair
from mmdistill.toolkit.box_files import read_boxes
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.runner import SequenceTracker, TrackedSequence, run_benchmark, track_sequences
from mmdistill.toolkit.sequence import FramePair
from mmdistill.toolkit.tracking_loop import TrackerProtocol


class Clip:
    """A sequence whose frame ``t`` is filled with ``t``."""

    def __init__(self, name: str, frames: int, first: tuple[float, ...] = (4, 5, 10, 8)) -> None:
        self.name = name
        self.boxes = np.full((frames, 4), np.nan)
        self.boxes[:1] = first
        self.attributes: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.boxes)

    def frame(self, index: int) -> FramePair:
        return Pair(None, np.full((30, 40, 3), index, np.uint8))


class Drifting:
    """Moves one pixel to the right per frame; counts what it was shown."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.shown: list[int] = []
        self.starts = 0
        self.stop_after = stop_after

    def init(self, frame: FramePair, box: np.ndarray) -> None:
        self.box = np.array(box)
        self.starts += 1
        self._see(frame)

    def update(self, frame: FramePair) -> tuple[np.ndarray, float]:
        self._see(frame)
        self.box = self.box + np.array([1, 0, 0, 0])
        return self.box, 0.5

    def _see(self, frame: FramePair) -> None:
        if self.stop_after is not None and len(self.shown) >= self.stop_after:
            raise KeyboardInterrupt
        assert frame.tir is not None
        self.shown.append(int(frame.tir[0, 0, 0]))


def drift(frames: int) -> np.ndarray:
    return np.array([[4 + step, 5, 10, 8] for step in range(frames)], dtype=float)


def tracked_alone(tracker: TrackerProtocol, clip: Clip, calls: list[None] | None = None) -> TrackedSequence:
    calls = [] if calls is None else calls
    [(index, tracked)] = track_sequences(tracker, [clip], lambda: calls.append(None))
    assert index == 0
    return tracked


def by(tracker: TrackerProtocol) -> SequenceTracker:
    return partial(track_sequences, tracker)


def test_a_sequence_is_tracked_from_its_first_box() -> None:
    tracker: TrackerProtocol = Drifting()
    calls: list[None] = []
    tracked = tracked_alone(tracker, Clip("car", 5), calls)
    np.testing.assert_array_equal(tracked.boxes, drift(5))
    np.testing.assert_array_equal(tracked.scores, [1, 0.5, 0.5, 0.5, 0.5])
    assert tracked.seconds.shape == (5,)
    assert (tracked.seconds > 0).all()
    assert tracked.frames_per_second == pytest.approx(4 / tracked.seconds[1:].sum())
    assert tracker.shown == [0, 1, 2, 3, 4]  # type: ignore[attr-defined]
    assert len(calls) == 5


def test_one_frame_needs_no_update() -> None:
    tracked = tracked_alone(Drifting(), Clip("still", 1))
    np.testing.assert_array_equal(tracked.boxes, drift(1))


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (Clip("car", 3, (np.nan, 0, 1, 1)), "sequence car, frame 1: .*four finite numbers"),
        (Clip("car", 3, (1, 1, 0, 1)), "sequence car, frame 1: .*no area"),
        (Clip("car", 3, (40, 1, 5, 5)), "sequence car, frame 1: .*outside the image of 40 x 30"),
        (Clip("car", 0), "sequence car: expected at least 1 frames, got 0"),
    ],
)
def test_a_first_box_nobody_could_start_from(clip: Clip, message: str) -> None:
    with pytest.raises(DataError, match=message):
        tracked_alone(Drifting(), clip)


def test_a_frame_without_any_image_keeps_the_last_box() -> None:
    class Dark(Clip):
        def frame(self, index: int) -> FramePair:
            return Pair(None, None) if index == 2 else super().frame(index)

    tracked = tracked_alone(Drifting(), Dark("car", 4))
    assert tracked.boxes[:, 0].tolist() == [4, 5, 5, 6]
    assert tracked.scores.tolist() == [1, 0.5, 0, 0.5]


def test_a_benchmark_is_written_as_it_goes(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "drifting"
    results = run_benchmark(by(Drifting()), [Clip("a", 3), Clip("baby's `", 4)], out)
    assert list(results) == ["a", "baby's `"]
    np.testing.assert_array_equal(results["a"], drift(3))
    np.testing.assert_array_equal(read_boxes(out / "baby's `.txt"), drift(4))
    times = json.loads((out / "a.json").read_text())
    assert times["scores"] == [1.0, 0.5, 0.5]
    assert len(times["seconds"]) == 3
    assert times["frames_per_second"] > 0
    assert sorted(path.name for path in out.iterdir()) == ["a.json", "a.txt", "baby's `.json", "baby's `.txt"]


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    clips = [Clip("a", 3), Clip("b", 4), Clip("c", 2)]
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(by(Drifting(stop_after=5)), clips, tmp_path)
    # The longest is first.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.json", "b.txt"]
    second = Drifting()
    results = run_benchmark(by(second), clips, tmp_path)
    assert second.starts == 2
    assert second.shown == [0, 1, 2, 0, 1]
    assert list(results) == ["a", "b", "c"]
    assert {name: len(boxes) for name, boxes in results.items()} == {"a": 3, "b": 4, "c": 2}
    third = Drifting()
    again = run_benchmark(by(third), clips, tmp_path)
    assert third.starts == 0
    for name in results:
        np.testing.assert_array_equal(again[name], results[name])


@pytest.mark.parametrize("earlier", ["1,2,3,4\n", "1,2,3,4\nhalf a li"])
def test_a_result_that_does_not_fit_is_redone(tmp_path: Path, caplog: pytest.LogCaptureFixture, earlier: str) -> None:
    (tmp_path / "a.txt").write_text(earlier)
    with caplog.at_level(logging.WARNING):
        results = run_benchmark(by(Drifting()), [Clip("a", 3)], tmp_path)
    np.testing.assert_array_equal(results["a"], drift(3))
    np.testing.assert_array_equal(read_boxes(tmp_path / "a.txt"), drift(3))
    assert "a.txt" in caplog.text
    assert "tracking again" in caplog.text


def test_boxes_returned_are_those_on_disk(tmp_path: Path) -> None:
    results = run_benchmark(by(Drifting()), [Clip("a", 3, (1 / 3, 2 / 3, 10, 10))], tmp_path)
    np.testing.assert_array_equal(results["a"], read_boxes(tmp_path / "a.txt"))


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, shown in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        run_benchmark(by(Drifting()), [Clip("car", 3)], tmp_path / str(shown))
        assert ("1 of 1 sequences" in stream.getvalue()) == shown
    quiet = Terminal()
    monkeypatch.setattr(sys, "stderr", quiet)
    run_benchmark(by(Drifting()), [Clip("car", 3)], tmp_path / "quiet", progress=False)
    assert quiet.getvalue() == ""
