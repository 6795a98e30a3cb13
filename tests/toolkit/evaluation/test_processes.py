"""Several processes give what one gives, and end when they are told to or when something is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.runner import SequenceTracker, TrackedSequence, in_processes, run_benchmark
from mmdistill.toolkit.sequence import TrackingSequence

pytestmark = pytest.mark.slow  # a new process imports everything anew

VIDEO = SyntheticSettings(size=(80, 60), target_size=(12.0, 16.0), length=4)


def fails(sequence: TrackingSequence) -> None:
    raise DataError(f"sequence {sequence.name}: no")


def dies(_: TrackingSequence) -> None:
    os._exit(3)


def well(_: TrackingSequence) -> None:
    pass


def tracker(before: Callable[[TrackingSequence], None] = well) -> SequenceTracker:
    """Return a run whose boxes are the first one moved by the frame's number; nothing is imported but this file."""

    def run(
        sequences: Sequence[TrackingSequence], after_frame: Callable[[], object]
    ) -> Iterator[tuple[int, TrackedSequence]]:
        for number, sequence in enumerate(sequences):
            before(sequence)
            for _ in range(len(sequence)):
                after_frame()
            boxes = sequence.boxes[:1] + np.arange(len(sequence))[:, None] * [1, 0, 0, 0]
            yield number, TrackedSequence(boxes, np.ones(len(sequence)), np.full(len(sequence), 0.5))

    return run


def test_the_same_boxes_and_a_count_of_every_frame(tmp_path: Path) -> None:
    sequences = synthetic_sequences(3, seed=0, settings=VIDEO)
    ticks: list[None] = []
    found = dict(in_processes(tracker, 2)(sequences, lambda: ticks.append(None)))
    assert len(ticks) == 12
    for number, tracked in tracker()(sequences, lambda: None):
        np.testing.assert_array_equal(found[number].boxes, tracked.boxes)
    results = run_benchmark(in_processes(tracker, 2), sequences[:1], tmp_path)
    np.testing.assert_allclose(results[sequences[0].name], found[0].boxes, atol=0.0005)
    # All is done: no process is started.
    assert list(in_processes(tracker, 2)([], lambda: None)) == []


@pytest.mark.parametrize(
    ("before", "message"), [(fails, "sequence synthetic_0000: no"), (dies, "--workers: one of 1 processes ended")]
)
def test_what_goes_wrong_in_a_process_is_one_line(before: Callable[[TrackingSequence], None], message: str) -> None:
    sequences = synthetic_sequences(1, seed=0, settings=VIDEO)
    with pytest.raises(DataError, match=message):
        list(in_processes(partial(tracker, before), 1)(sequences, lambda: None))


def test_no_process_is_left_when_a_run_is_given_up() -> None:
    run = in_processes(tracker, 2)(synthetic_sequences(4, seed=0, settings=VIDEO), lambda: None)
    assert isinstance(run, Generator)
    next(run)
    assert active_children()
    run.close()
    assert not active_children()
