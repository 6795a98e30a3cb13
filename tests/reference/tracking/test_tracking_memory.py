"""A long video takes no more memory than a short one: neither tensors nor containers grow in number."""

import gc
from dataclasses import replace
from typing import Any

import pytest
import torch
from drawn_target import network
from harness.recorded_graphs import RecordedGraphs
from test_batch_tracker import NETWORKS, Clip

from mmdistill.reference.tracking.batch_tracker import BatchTracker
from mmdistill.reference.tracking.runners import GraphRunner

PERIOD = 12
"""Frames after which videos, learning and all else are at the same point."""


def held_items(root: object) -> int:
    """Return the number of items of all containers that an object of this project holds, directly or not."""
    seen: dict[int, object] = {}
    pending, items = [root], 0
    while pending:
        value = pending.pop()
        if id(value) in seen or isinstance(value, type):
            continue
        seen[id(value)] = value
        children: list[object] = []
        if isinstance(value, dict):
            children = [*value, *value.values()]
        elif isinstance(value, list | tuple | set):
            children = list(value)
        elif type(value).__module__.startswith(("mmdistill", "torch.nn", "harness")):
            children = list(vars(value).values()) if hasattr(value, "__dict__") else []
        items += len(children)
        pending += children
    return items


def live_tensors() -> tuple[int, int]:
    """Return the number of tensors of the process, and their elements."""
    gc.collect()
    # Asking other objects for their class may run their code.
    tensors = [value for value in gc.get_objects() if type(value) is torch.Tensor]
    return len(tensors), sum(value.numel() for value in tensors)


@pytest.mark.slow
@pytest.mark.parametrize("replayed", [False, True], ids=["calls", "replays"])
@pytest.mark.parametrize("name", ["tir", "atom"])
def test_memory_does_not_grow(name: str, replayed: bool) -> None:
    settings, tracking = NETWORKS[name]
    tracking = replace(
        tracking, localization=replace(tracking.localization, not_found=-100.0, rival=100.0, distractor=100.0)
    )
    tracker: Any = BatchTracker(network(settings), tracking, slots=2, seed=5)
    if replayed:
        tracker._runner = GraphRunner(tracker.network, tracker.settings, 2, graphs=RecordedGraphs())
    clips = [Clip(0, 9, (120, 90)), Clip(1, 9, (160, 120))]
    for slot, clip in enumerate(clips):
        tracker.start(slot, clip.frame(0), clip.boxes[0])
    counts = []
    for number in range(3 * PERIOD):
        index = 1 + number % 6
        tracker.step([0, 1], [clip.frame(index) for clip in clips])
        if number % PERIOD == PERIOD - 1:
            counts.append((*live_tensors(), held_items(tracker)))
    assert counts[0] == counts[1] == counts[2]
    assert counts[0][0] > 20
    tracker._areas[7] = [1, 2, 3]
    assert held_items(tracker) == counts[0][2] + 2 + 3  # growth would be seen
