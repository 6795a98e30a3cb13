"""The host-time benchmark runs, and its parts are within the frame."""

import importlib
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
    return importlib.import_module("host_time")


def test_the_host_time_of_two_videos(module: Any) -> None:
    settings = module.Experiment(videos=(1, 2), frames=22, warmup=2, size=(160, 120))
    rows = module.measure(settings)
    assert list(rows) == ["1", "2"]
    for row in rows.values():
        assert 0 < row["milliseconds"] < 100
        assert all(0 <= value < 100 for value in row["parts"].values())
    lines = module.table({"rows": rows, "limits": {"1": 1.0}})
    assert lines[0] == "| Part, ms | 1 | 2 |"
    assert lines[-1] == "| limit | 1.0 |  |"
    assert "interpolation taps" in "".join(lines)


def test_boxes_are_the_true_ones_and_the_filter_is_due(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (video,) = module.synthetic_sequences(1, seed=0, settings=module.SyntheticSettings((160, 120), length=22))
    tracker = module.HostOnlyTracker([module.CachedSequence(video)], 4)
    learned = []
    runner = tracker.tracker._runner
    learn = runner.learn
    monkeypatch.setattr(runner, "learn", lambda slots, due: (learned.append(due.tolist()), learn(slots, due)))
    for index in range(1, 22):
        tracker.step(index)
        assert tracker.tracker._host.targets.box[0] == pytest.approx(video.boxes[index])
    assert [index for index, due in enumerate(learned, start=1) if due != [0]] == [20]
