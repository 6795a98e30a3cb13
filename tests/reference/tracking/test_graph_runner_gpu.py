"""Tracking by CUDA graphs on a GPU; these run wherever PyTorch finds one."""

from typing import Any

import pytest
import torch
from drawn_target import network
from test_batch_tracker import CLIPS, NETWORKS, Clip

from mmdistill.reference.tracking.batch_tracker import BatchTracker
from mmdistill.reference.tracking.cuda_graph import CapturedFunction
from mmdistill.reference.tracking.runners import GraphRunner, StepRunner
from mmdistill.toolkit.boxes import intersection_over_union
from mmdistill.toolkit.evaluation.runner import track_sequences

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")

networks = pytest.mark.parametrize("name", ["student", "tir", "atom"])


def tracker_of(name: str, slots: int, *, replayed: bool = True, device: str = "cuda") -> BatchTracker:
    settings, tracking = NETWORKS[name]
    tracker = BatchTracker(network(settings).to(device), tracking, slots=slots, seed=5)
    if not replayed:
        tracker._runner = StepRunner(tracker.network, tracker.settings, slots)
    return tracker


def clips(frames: int) -> list[Clip]:
    return [Clip(0, frames, (60 + 3 * frames, 100 + frames)), Clip(1, frames, (60 + 3 * frames, 120 + frames))]


def step(tracker: BatchTracker, videos: list[Clip], index: int) -> list[Any]:
    return tracker.step(range(len(videos)), [video.frame(index) for video in videos])


def started(tracker: BatchTracker, videos: list[Clip]) -> BatchTracker:
    for slot, video in enumerate(videos):
        tracker.start(slot, video.frame(0), video.boxes[0])
    return tracker


def counted_captures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that gets an item for each capture."""
    captures: list[Any] = []
    original = CapturedFunction._new_capture

    def counted(self: CapturedFunction[Any], *arguments: Any) -> Any:
        captures.append(self)
        return original(self, *arguments)

    monkeypatch.setattr(CapturedFunction, "_new_capture", counted)
    return captures


def assert_close(got: list[Any], expected: list[Any], overlap: float = 0.99) -> None:
    for one, other in zip(got, expected, strict=True):
        assert intersection_over_union(one.box, other.box) > overlap


def test_a_gpu_replays() -> None:
    assert type(tracker_of("student", 1)._runner) is GraphRunner
    assert type(tracker_of("student", 1, device="cpu")._runner) is StepRunner


@networks
@pytest.mark.parametrize("slots", [1, 3])
def test_replays_give_the_boxes_of_plain_calls(name: str, slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over videos of several lengths: slots end, wait and start again."""
    expected = dict(track_sequences(tracker_of(name, slots, replayed=False), CLIPS))
    captures = counted_captures(monkeypatch)
    tracker: Any = tracker_of(name, slots)
    got = dict(track_sequences(tracker, CLIPS))
    for index, plain in expected.items():
        assert intersection_over_union(got[index].boxes, plain.boxes).min() > 0.99
    assert len(captures) == 1 + len(tracker._runner._learn)
    again = dict(track_sequences(tracker, CLIPS))
    for index, result in got.items():
        assert intersection_over_union(again[index].boxes, result.boxes).min() > 0.99
    assert len(captures) == 1 + len(tracker._runner._learn)


@networks
def test_boxes_are_those_of_the_cpu(name: str) -> None:
    expected = dict(track_sequences(tracker_of(name, 3, device="cpu"), CLIPS))
    got = dict(track_sequences(tracker_of(name, 3), CLIPS))
    for index, result in expected.items():
        assert intersection_over_union(got[index].boxes, result.boxes).min() > 0.95


def test_another_autocast_captures_again(monkeypatch: pytest.MonkeyPatch) -> None:
    videos = clips(14)
    tracker, plain = (
        started(tracker_of("student", 2), videos),
        started(tracker_of("student", 2, replayed=False), videos),
    )
    captures = counted_captures(monkeypatch)
    for index in range(1, 5):
        assert_close(step(tracker, videos, index), step(plain, videos, index))
    before = len(captures)
    assert before >= 1
    with torch.autocast("cuda", torch.bfloat16):
        for index in range(5, 9):
            assert_close(step(tracker, videos, index), step(plain, videos, index), overlap=0.9)
    assert before < len(captures) <= before + 3
    runner: Any = tracker._runner
    during = len(captures)
    step(tracker, videos, 9)
    assert captures[during] is runner._track


@pytest.mark.slow
@networks
def test_memory_is_constant_over_two_thousand_frames(name: str) -> None:
    videos = clips(21)
    tracker = started(tracker_of(name, 2), videos)
    amounts = []
    for number in range(2000):
        index = 1 + number % 20
        step(tracker, videos, index)
        if number == 1000:  # videos start again in the memory there is
            started(tracker, videos)
        if number in (400, 800, 1200, 1600, 1999):
            torch.cuda.synchronize()
            amounts.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    assert len({allocated for allocated, _ in amounts}) == 1
    assert len({reserved for _, reserved in amounts[2:]}) == 1
