"""The demonstration's frames a second, by trackers that take known times on a clock that tests move."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.reference.demo.experiment import SPEED_ROUNDS, frames_per_second, saved_frames_per_second
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.toolkit.data_issues import DataError

(VIDEO,) = synthetic_sequences(
    1, seed=0, settings=SyntheticSettings(length=13, size=(96, 72), target_size=(12.0, 20.0))
)


class Clock:
    """Seconds, which only trackers pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Timed:
    """A tracker that takes so long for a frame, by what the machine is doing and how often it was started."""

    def __init__(
        self, clock: Clock, seconds: float, load: Callable[[float], float] = lambda _: 1.0, *, cold: float = 0.0
    ) -> None:
        self.clock, self.seconds, self.load, self.cold = clock, seconds, load, cold
        self.starts = 0

    def init(self, *_: object) -> None:
        self.clock.now += 3.0  # not counted
        self.starts += 1

    def update(self, _: object) -> tuple[tuple[float, ...], float]:
        self.clock.now += self.seconds * self.load(self.clock.now) + (self.cold if self.starts == 1 else 0.0)
        return (0.0, 0.0, 1.0, 1.0), 1.0


@given(st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=4))
def test_a_tracker_has_the_speed_of_its_own_frames(seconds: list[float]) -> None:
    clock = Clock()
    trackers = {str(place): Timed(clock, each, cold=5.0) for place, each in enumerate(seconds)}
    found = frames_per_second(trackers, VIDEO, clock=clock)
    assert list(found.values()) == pytest.approx([1 / each for each in seconds])
    assert {tracker.starts for tracker in trackers.values()} == {SPEED_ROUNDS + 1}


@pytest.mark.parametrize("names", [("a", "b", "slow"), ("slow", "b", "a"), ("b", "slow", "a")])
def test_a_machine_that_slows_down_slows_all_alike(names: tuple[str, ...]) -> None:
    clock = Clock()

    def slower(now: float) -> float:
        return 1.0 + now / 50  # ten times as slow in the end

    trackers = {name: Timed(clock, 0.2 if name == "slow" else 0.1, slower) for name in names}
    found = frames_per_second(trackers, VIDEO, clock=clock)
    assert clock.now > 100
    assert found["a"] == pytest.approx(found["b"], rel=0.01)
    assert found["slow"] == pytest.approx(found["a"] / 2, rel=0.02)


def test_one_slow_round_does_not_count() -> None:
    clock = Clock()
    busy = [Timed(clock, 0.1, lambda _: 50.0 if busy[0].starts == 3 else 1.0)]
    assert frames_per_second({"a": busy[0]}, VIDEO, clock=clock)["a"] == pytest.approx(10)


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "speed.json"
    trackers = {"a": Timed(clock, 0.1), "b": Timed(clock, 0.1)}
    first = saved_frames_per_second(path, trackers, VIDEO)
    starts = trackers["a"].starts
    assert saved_frames_per_second(path, trackers, VIDEO) == first
    assert trackers["a"].starts == starts
    with pytest.raises(DataError, match=r"speed\.json: expected a, got a, b"):
        saved_frames_per_second(path, {"a": trackers["a"]}, VIDEO)
    for broken in ("{", json.dumps({"frames_per_second": [1]}), json.dumps({"frames_per_second": {"a": "x"}})):
        path.write_text(broken)
        with pytest.raises(DataError, match=r"speed\.json: expected frames per second"):
            saved_frames_per_second(path, trackers, VIDEO)
