"""How many operations a tracked frame dispatches: on a GPU each is a launch, and launches take the frame's time.

Views are not counted; they compute nothing. The numbers do not depend on the network's width.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from drawn_target import network
from harness.recorded_graphs import RecordedGraph, RecordedGraphs
from test_batch_tracker import NETWORKS, Clip
from torch.utils._python_dispatch import TorchDispatchMode

from mmdistill.reference.models.config import student_settings
from mmdistill.reference.tracking import step as step_module
from mmdistill.reference.tracking.augmentation import Transform
from mmdistill.reference.tracking.batch_tracker import BatchTracker
from mmdistill.reference.tracking.runners import GraphRunner
from mmdistill.reference.tracking.settings import FirstFrameSettings, TrackingSettings
from mmdistill.reference.tracking.step import TrackStep

OUTSIDE_LIMIT = 40
"""Operations of a frame outside of the functions, for any number of slots."""

INSIDE_LIMIT = 411
"""Operations of ``TrackStep.forward``; half of the 822 of the frame before it was a function."""

LEARN_LIMIT = 110
"""Operations of ``TrackStep.learn`` with two iterations."""

OUTSIDE = "outside"


class OperationCounter(TorchDispatchMode):
    """Counts operations by part of the frame.

    Attributes:
        part: the present part.
        parts: the number of operations of each part.
        names: the same by part and operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.part = OUTSIDE
        self.parts: Counter[str] = Counter()
        self.names: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not is_view(func):
            self.parts[self.part] += 1
            self.names[self.part, str(func)] += 1
        return func(*args, **(kwargs or {}))

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        previous, self.part = self.part, part
        try:
            yield
        finally:
            self.part = previous

    def watch(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, part: str) -> None:
        """Count the operations of a function of a module or object as a part."""
        original: Callable[..., Any] = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            with self.inside(part):
                return original(*arguments, **options)

        monkeypatch.setattr(owner, name, watched)

    def told(self, *parts: str) -> str:
        """Return the counts for an assertion's message, the most frequent operations first."""
        lines = []
        for part in parts or sorted(self.parts):
            names = sorted(((count, name) for (of, name), count in self.names.items() if of == part), reverse=True)
            operations = " ".join(f"{name.removeprefix('aten.')}:{count}" for count, name in names)
            lines.append(f"{part}: {self.parts[part]} ({operations})")
        return "\n".join(lines)


def is_view(func: Any) -> bool:
    """Return whether an operation returns views of its inputs only."""
    arguments, returns = func._schema.arguments, func._schema.returns
    reads = any(each.alias_info is not None and not each.alias_info.is_write for each in arguments)
    return (reads and all(each.alias_info is not None for each in returns)) or "_unsafe_view" in str(func)


def no_rejection(tracking: TrackingSettings) -> TrackingSettings:
    """Every frame is normal, and the filter learns in every third. First frames take little time."""
    first = FirstFrameSettings(iterations=1, transforms=(Transform(flip=True),))
    localization = replace(tracking.localization, not_found=-100.0, rival=100.0, distractor=100.0)
    learning = replace(tracking.learning, interval=3)
    return replace(tracking, first_frame=first, localization=localization, learning=learning)


def started(name: str, slots: int, *, replayed: bool, rejecting: bool = False) -> tuple[BatchTracker, list[Clip]]:
    settings, tracking = NETWORKS[name]
    tracking = tracking if rejecting else no_rejection(tracking)
    tracker = BatchTracker(network(settings), tracking, slots=slots, seed=5)
    if replayed:
        tracker._runner = GraphRunner(tracker.network, tracker.settings, slots, graphs=RecordedGraphs())
    clips = [Clip(slot % 4, 14, (200, 140)) for slot in range(slots)]
    for slot, clip in enumerate(clips):
        tracker.start(slot, clip.frame(0), clip.boxes[0])
    return tracker, clips


@pytest.mark.parametrize("name", ["student", pytest.param("atom", marks=pytest.mark.slow)])
@pytest.mark.parametrize("replayed", [False, True], ids=["calls", "replays"])
@pytest.mark.parametrize("slots", [1, 8])
def test_few_operations_are_outside_of_the_functions(
    name: str, slots: int, replayed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, clips = started(name, slots, replayed=replayed)
    counter = OperationCounter()
    if replayed:
        counter.watch(monkeypatch, RecordedGraph, "replay", "replay")
    else:
        functions = tracker._runner.step()
        counter.watch(monkeypatch, functions, "forward", "track")
        counter.watch(monkeypatch, functions, "learn", "learn")

    def step(index: int, videos: int = slots) -> None:
        counter.parts.clear()
        counter.names.clear()
        with counter:
            tracker.step(range(videos), [clip.frame(index) for clip in clips[:videos]])
        if index > 3:  # all is captured
            assert counter.parts[OUTSIDE] <= OUTSIDE_LIMIT, counter.told(OUTSIDE)
            assert sum(counter.parts.values()) > counter.parts[OUTSIDE]

    for index in range(1, 8):  # the filter learns in frames 3 and 6
        step(index)
    step(8, max(1, slots - 3))


def test_slots_that_learn_differently_need_few_operations_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With plain calls, slots of one number of iterations learn together."""
    tracker, clips = started("student", 8, replayed=False, rejecting=True)
    functions = tracker._runner.step()
    counter, most = OperationCounter(), set()
    learn = functions.learn
    counter.watch(monkeypatch, functions, "forward", "track")
    monkeypatch.setattr(functions, "learn", lambda *given: most.add(given[-1]) or learn(*given))
    counter.watch(monkeypatch, functions, "learn", "learn")
    mixed = 0
    for index in range(1, 13):
        counter.parts.clear()
        counter.names.clear()
        most.clear()
        with counter:
            tracker.step(range(8), [clip.frame(index) for clip in clips])
        mixed += len(most) == 2
        assert counter.parts[OUTSIDE] <= OUTSIDE_LIMIT, counter.told(OUTSIDE)
    assert mixed


def watch_parts(counter: OperationCounter, functions: TrackStep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the parts of the functions, and the rest of each."""
    counter.watch(monkeypatch, functions, "forward", "other positions")
    counter.watch(monkeypatch, functions, "learn", "learn")
    counter.watch(monkeypatch, functions, "images", "images")
    counter.watch(monkeypatch, functions.network, "extract", "trunk and fusion")
    for name in ("features", "samples", "score"):
        counter.watch(monkeypatch, functions.model, name, f"classification {name}")
    for name in ("localize", "refine", "place_samples"):
        counter.watch(monkeypatch, step_module, name, name)


def test_a_frame_of_the_student_needs_half_of_the_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole structure of the RGB-T student, at a fraction of its width."""
    settings = student_settings(width=4)
    tracker = BatchTracker(network(settings), no_rejection(TrackingSettings()))
    functions = tracker._runner.step()
    functions.windowed = False  # as on a GPU
    clip = Clip(1, 5, (640, 480))
    tracker.start(0, clip.frame(0), clip.boxes[0])
    counter = OperationCounter()
    watch_parts(counter, functions, monkeypatch)
    counts = []
    for index in range(1, 4):
        counter.parts.clear()
        counter.names.clear()
        with counter:
            tracker.step([0], [clip.frame(index)])
        inside = Counter(counter.parts)
        learned = inside.pop("learn", 0)
        del inside[OUTSIDE]
        counts.append(sum(inside.values()))
        assert counts[-1] <= INSIDE_LIMIT, counter.told()
        assert (learned > 0) == (index == 3)
        assert learned <= LEARN_LIMIT, counter.told("learn")
        assert set(inside) >= {"images", "trunk and fusion", "classification features", "localize", "refine"}
    assert len(set(counts)) == 1  # the number does not depend on values
