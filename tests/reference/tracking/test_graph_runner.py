"""Tracking by replayed graphs gives the boxes of plain calls; a stand-in records and replays them on the CPU."""

from typing import Any

import numpy as np
import pytest
import torch
from drawn_target import network
from harness.recorded_graphs import RecordedGraphs
from test_batch_tracker import CLIPS, NETWORKS

from mmdistill.reference.tracking.batch_tracker import BatchTracker
from mmdistill.reference.tracking.runners import GraphRunner
from mmdistill.reference.tracking.state import TrackerState
from mmdistill.reference.tracking.tracker import track_batch
from mmdistill.toolkit.boxes import intersection_over_union
from mmdistill.toolkit.evaluation.runner import track_sequences
from mmdistill.toolkit.tracking_loop import Result

VIDEOS = [CLIPS[0], CLIPS[1], CLIPS[3]]
networks = pytest.mark.parametrize("name", ["student", "tir", "atom"])


def by_graphs(name: str, slots: int) -> tuple[BatchTracker, RecordedGraphs]:
    """A tracker that replays recorded graphs, and the graphs."""
    settings, tracking = NETWORKS[name]
    tracker, graphs = BatchTracker(network(settings), tracking, slots=slots, seed=5), RecordedGraphs()
    tracker._runner = GraphRunner(tracker.network, tracker.settings, slots, graphs=graphs)
    return tracker, graphs


def by_calls(name: str, slots: int) -> BatchTracker:
    """A tracker that calls the functions."""
    settings, tracking = NETWORKS[name]
    return BatchTracker(network(settings), tracking, slots=slots, seed=5)


def start(tracker: BatchTracker, *slots: int) -> None:
    for slot in slots:
        tracker.start(slot, VIDEOS[slot].frame(0), VIDEOS[slot].boxes[0])


def step(tracker: BatchTracker, index: int, *slots: int) -> list[Result]:
    return tracker.step(slots, [VIDEOS[slot].frame(index) for slot in slots])


def assert_same(got: list[Result], expected: list[Result], tolerance: float = 1e-4) -> None:
    for one, other in zip(got, expected, strict=True):
        assert intersection_over_union(one.box, other.box) > 1 - 10 * tolerance
        assert one.score == pytest.approx(other.score, abs=tolerance)
        assert one.flag == other.flag


def memory_of(tracker: BatchTracker) -> dict[str, int]:
    """The addresses of all tensors that the tracker's runner holds from frame to frame."""
    runner: Any = tracker._runner
    captured = [runner._track, *(runner._learn[most] for most in sorted(runner._learn))]
    held = (vars(runner) | {"state": runner._state}, [each.inputs for each in captured])
    leaves, _ = torch.utils._pytree.tree_flatten_with_path(held)
    return {str(path): leaf.data_ptr() for path, leaf in leaves if isinstance(leaf, torch.Tensor)}


@pytest.mark.parametrize("slots", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("name", ["student", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tir", "atom"))])
def test_boxes_are_those_of_plain_calls(name: str, slots: int) -> None:
    """Over videos of several lengths: slots end, wait and start again."""
    settings, tracking = NETWORKS[name]
    expected = track_batch(network(settings), CLIPS, tracking, batch_size=1, seed=5)
    tracker, graphs = by_graphs(name, slots)
    got = dict(track_sequences(tracker, CLIPS))
    for index, alone in enumerate(expected):
        assert intersection_over_union(got[index].boxes, alone.boxes).min() > 0.999
        np.testing.assert_allclose(got[index].scores, alone.scores, atol=1e-4)
    runner: Any = tracker._runner
    assert graphs.captures == len(graphs.alive) == 1 + len(runner._learn)
    assert set(runner._learn) == ({1} if name == "atom" else {1, 2})
    # Another run captures nothing.
    before = graphs.captures, graphs.replays
    again = dict(track_sequences(tracker, CLIPS[:2]))
    assert intersection_over_union(again[0].boxes, expected[0].boxes).min() > 0.999
    assert graphs.captures == before[0]
    assert graphs.replays > before[1]


def test_a_frame_is_one_replay_and_learning_another() -> None:
    tracker, graphs = by_graphs("tir", 3)  # learns in every third frame, and from a hard negative at once
    start(tracker, 0, 1)
    replays = []
    for index in range(1, 7):
        before = graphs.replays
        flags = {result.flag for result in step(tracker, index, 0, 1)}
        replays.append(graphs.replays - before)
        learns = index % 3 == 0 or "hard_negative" in flags
        assert replays[-1] == 1 or learns
        assert "normal" not in flags or replays[-1] == 1 + learns
    assert max(replays) == 2


def test_memory_is_allocated_once() -> None:
    tracker, graphs = by_graphs("student", 3)
    start(tracker, 0, 2)
    step(tracker, 1, 0, 2)
    first = {path: address for path, address in memory_of(tracker).items() if "inputs" not in path}
    for index in range(2, 11):
        step(tracker, index, 0, 2)
    captures, addresses = graphs.captures, memory_of(tracker)
    assert captures == 1 + 2  # tracking; learning with one and with two iterations
    start(tracker, 1, 2)
    for index in range(1, 7):
        step(tracker, index, *((1, 2) if index < 4 else (2,)))
    assert memory_of(tracker) == addresses
    assert first.items() <= addresses.items()
    assert len(addresses) > 20
    assert graphs.captures == captures


@networks
def test_a_slot_without_a_frame_keeps_its_state(name: str) -> None:
    tracker, _ = by_graphs(name, 4)  # the last slot never has a video
    calls = by_calls(name, 4)
    for each in (tracker, calls):
        start(each, 0, 1, 2)
        step(each, 1, 0, 1, 2)
    state = tracker._runner._started()
    before = slot_values(state, 1)
    never = slot_values(state, 3)
    for index in range(2, 5):
        assert_same(step(tracker, index, 0, 2), step(calls, index, 0, 2))
    for kept, values in ((before, slot_values(state, 1)), (never, slot_values(state, 3))):
        for one, other in zip(kept, values, strict=True):
            assert torch.equal(one, other)
    assert_same(step(tracker, 5, 0, 1, 2), step(calls, 5, 0, 1, 2))


def slot_values(state: TrackerState, slot: int) -> list[torch.Tensor]:
    """The state of a slot, copied; without the spare row, which is never read."""
    target, rows = state.target, len(state.target.weights)
    first = (*target.model, *target.modulation, target.num_samples, target.newest)
    second = (target.weights, *(values[:rows] for values in state.memory))
    return [values[slot].clone() for values in first] + [values[:, slot].clone() for values in second]


def test_another_autocast_captures_again() -> None:
    tracker, graphs = by_graphs("student", 1)
    calls = by_calls("student", 1)
    for each in (tracker, calls):
        start(each, 0)
    frames = iter(range(1, 12))

    def frame(tolerance: float = 1e-4) -> int:
        before, index = graphs.captures, next(frames)
        results = [step(each, index, 0) for each in (tracker, calls)]
        assert_same(*results, tolerance)
        return graphs.captures - before

    plain = [frame() for _ in range(4)]
    assert sum(plain) == 1 + len(graphs_of_learning(tracker))
    with torch.autocast("cpu", torch.bfloat16):
        assert frame(1e-2) >= 1
        assert frame(1e-2) + frame(1e-2) <= 2  # learning with one and with two iterations
    assert frame(1e-2) >= 1  # the target model has learned in half precision
    assert len(graphs.alive) == 1 + len(graphs_of_learning(tracker))  # the old ones are freed


def graphs_of_learning(tracker: BatchTracker) -> dict[int, Any]:
    runner: Any = tracker._runner
    captured: dict[int, Any] = runner._learn
    return captured


def test_the_score_map_is_that_of_the_slot() -> None:
    tracker, calls = by_graphs("student", 3)[0], by_calls("student", 3)
    for each in (tracker, calls):
        start(each, 0, 2)
        step(each, 1, 0, 2)
    for slot in (0, 2):
        got, expected = tracker.response(slot), calls.response(slot)
        assert got is not None
        assert expected is not None
        np.testing.assert_allclose(got.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(got.area, expected.area)
    assert tracker.response(1) is None


def test_a_frame_without_videos_is_nothing() -> None:
    tracker, graphs = by_graphs("student", 2)
    start(tracker, 0)
    assert tracker.step([], []) == []
    assert graphs.replays == 0
