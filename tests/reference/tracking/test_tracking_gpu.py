"""Tracking on a GPU; these run wherever PyTorch finds one."""

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from drawn_target import SETTINGS
from torch_warnings import SYNC_DEBUG_MODE

from mmdistill import Pair
from mmdistill.reference.models.config import NetworkSettings, single_settings, student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.tracking.batch_tracker import BatchTracker
from mmdistill.toolkit.boxes import intersection_over_union

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")

NETWORKS = [student_settings(width=8, crop_size=96), single_settings("tir", width=8, crop_size=96)]


def frame(index: int) -> Pair[np.ndarray]:
    images = np.random.default_rng(0).integers(0, 60, (2, 90, 120, 3), dtype=np.uint8)
    images[:, 40 - index : 56 - index, 30 + 3 * index : 50 + 3 * index] = 200
    return Pair(*images)


def started(settings: NetworkSettings, device: str) -> BatchTracker:
    torch.manual_seed(0)
    tracker = BatchTracker(TrackerNetwork(settings).to(device), SETTINGS, slots=2)
    for slot in range(2):
        tracker.start(slot, frame(slot), [30 + 3 * slot, 40 - slot, 20, 16])
    return tracker


@pytest.mark.parametrize("settings", NETWORKS, ids=["student", "tir"])
def test_boxes_are_those_of_the_cpu(settings: NetworkSettings) -> None:
    trackers = [started(settings, device) for device in ("cpu", "cuda")]
    for index in range(2, 8):
        cpu, gpu = (tracker.step([0, 1], [frame(index)] * 2) for tracker in trackers)
        for expected, result in zip(cpu, gpu, strict=True):
            assert intersection_over_union(expected.box, result.box) > 0.95


@SYNC_DEBUG_MODE
@pytest.mark.parametrize("settings", NETWORKS, ids=["student", "tir"])
def test_the_host_waits_once_a_frame(settings: NetworkSettings) -> None:
    tracker = started(settings, "cuda")

    def step(index: int) -> None:
        tracker.step([0, 1], [frame(index % 8)] * 2)

    for index in range(1, 24):  # the filter is due in one of them; what is prepared once may wait
        step(index)
    try:
        torch.cuda.set_sync_debug_mode("warn")
        assert number_of_waits(lambda: torch.ones(1, device="cuda").item()) == 1
        assert [number_of_waits(partial(step, index)) for index in range(24, 48)] == [1] * 24
    finally:
        torch.cuda.set_sync_debug_mode("default")


def number_of_waits(call: Callable[[], object]) -> int:
    """Return how often the host waits for the GPU, in the debug mode that warns of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return sum("synchronizing" in str(warning.message) for warning in caught)
