"""Counts the operations, bytes and host reads of a tracked frame, by part, as a GPU runs it.

The graphs' functions are called plainly, and the IoU features are computed on whole maps. Operations in the parts are
replayed by a graph on a GPU; those outside of all parts are launched one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from parts.gpu.experiment import Experiment
from parts.gpu.phases import PhaseCounts, count_phases
from parts.timing import no_rejection
from torch import Tensor

from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.tracking import batch_tracker, box_refinement, target_model
from mmdistill.reference.tracking.batch_tracker import BatchTracker

INTERVAL = 20
"""Frames from one filter update to the next."""

VIDEOS = (1, 8)
"""Numbers of videos per batch; the count of operations should not depend on them."""


class PlainFunction:
    """Takes the place of a ``CapturedFunction``, without a graph."""

    def __init__(self, function: Callable[..., Any], **_: object) -> None:
        self._function = function
        self.inputs: tuple[Tensor, ...] = ()

    def capture(self, *inputs: Tensor, key: object = None) -> None:
        """Allocate the input buffers."""
        del key
        self.inputs = self.inputs or tuple(values.clone() for values in inputs)

    def __call__(self, *inputs: Tensor, key: object = None) -> Any:
        """Copy the inputs into the buffers, and call the function."""
        self.capture(*inputs, key=key)
        for buffer, values in zip(self.inputs, inputs, strict=True):
            if values is not buffer:
                buffer.copy_(values)
        return self._function(*self.inputs)


def frame_counts(experiment: Experiment, precision: str, videos: int, *, updates: bool) -> PhaseCounts:
    """Return the counts of one frame of some videos; ``updates``: of a frame in which the filters are updated."""
    settings = SyntheticSettings((160, 120), length=2)
    video = synthetic_sequences(1, seed=0, settings=settings)[0]
    slots, first, frame = list(range(videos)), video.frame(0), video.frame(1)
    with experiment.autocast(precision):
        tracker = BatchTracker(experiment.network("student"), no_rejection(), slots=videos)
        parts = _graph_parts(tracker) if find_spec("mmdistill.reference.tracking.step") else _parts_without_graphs()
        for slot in slots:
            tracker.start(slot, first, video.boxes[0])
        for _ in range(INTERVAL - 1 if updates else 1):
            tracker.step(slots, [frame] * videos)
        return count_phases(lambda: tracker.step(slots, [frame] * videos), parts)


def _graph_parts(tracker: BatchTracker) -> dict[str, list[tuple[Any, str]]]:
    """Let a tracker run as on a GPU, and return the functions of each part."""
    runners = import_module("mmdistill.reference.tracking.runners")
    step = import_module("mmdistill.reference.tracking.step")
    setattr(runners, "CapturedFunction", PlainFunction)  # noqa: B010 (a module has no such declared attribute)
    tracker._runner = runners.GraphRunner(tracker.network, tracker.settings, tracker.slots)
    return {
        "resizing": [(runners, "resize_windows")],
        "features": [(step.TrackStep, "extract")],
        "scores": [(target_model.DiMPModel, "score")],
        "localization": [(step, "localize")],
        "box refinement": [(step, "refine")],
        "sample placement": [(step, "place_samples")],
        "positions and rows": [(step.TrackStep, "forward")],
        "memory": [(runners, "store")],
        "filter update": [(runners.GraphRunner, "_learn_all")],
    }


def _parts_without_graphs() -> dict[str, list[tuple[Any, str]]]:
    """Return the functions of each part of a tracker without graphs."""
    box_refinement._ascend_in_windows = lambda *_: None
    return {
        "features": [(TrackerNetwork, "extract"), (target_model.DiMPModel, "features")],
        "scores": [(target_model.DiMPModel, "score")],
        "localization": [(batch_tracker, "localize")],
        "box refinement": [(batch_tracker, "refine")],
        "filter update": [(target_model.DiMPModel, "improve")],
    }


def frame_rows(experiment: Experiment) -> dict[str, Callable[[], PhaseCounts]]:
    """Return the count of each row of tracking by name."""
    return {
        f"tracking/{kind}, {precision}, {videos}": lambda videos=videos, precision=precision, updates=updates: (  # type: ignore[misc]
            frame_counts(experiment, precision, videos, updates=updates)
        )
        for kind, updates in (("frame", False), ("frame with filter update", True))
        for precision in ("float32", "bfloat16")
        for videos in VIDEOS
    }
