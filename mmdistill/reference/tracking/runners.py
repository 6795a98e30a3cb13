"""Runs the functions of a tracked frame on the state of all slots: called as they are, or replayed as CUDA graphs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmdistill.reference.device import upload
from mmdistill.reference.models.folding import cast_for_autocast
from mmdistill.reference.models.iou_net import Modulation
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.tracking.frame_inputs import HostFrame, cut_crops
from mmdistill.reference.tracking.settings import TrackingSettings
from mmdistill.reference.tracking.state import TargetState, TrackerState, allocate
from mmdistill.reference.tracking.step import TrackedStep, TrackStep
from mmdistill.toolkit.boxes import Array

UPLOADS = 4
"""Parts in which a frame's windows are uploaded, so that the device copies while the host prepares the next part."""


class StepRunner:
    """Holds the state, and calls the functions on the slots of a frame.

    On the CPU the host resizes the crops and IoU features are computed in windows: both are faster there.

    Args:
        network: with folded batch norms.
        settings: the constants of tracking.
        slots: S, the number of slots.
    """

    resizes = False

    def __init__(self, network: TrackerNetwork, settings: TrackingSettings, slots: int) -> None:
        self.network, self.settings, self.slots = network, settings, slots
        self.modalities = 2 if network.settings.modality == "rgbt" else 1
        parameter = next(network.parameters())
        self.device = parameter.device
        self._state: TrackerState | None = None
        self._steps: dict[torch.dtype | None, TrackStep] = {}
        self._last: TrackedStep | None = None

    def precision(self) -> torch.dtype | None:
        """Return the dtype of autocast; None if it is off."""
        kind = self.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

    def step(self) -> TrackStep:
        """Return the functions for the present autocast. Their weights have its dtype, so none is cast in a frame."""
        precision = self.precision()
        if precision not in self._steps:
            network = self.network if precision is None else cast_for_autocast(self.network, precision)
            self._steps[precision] = TrackStep(
                network, self.settings, resizes=self.resizes, windowed=self.device.type == "cpu" and not self.resizes
            )
        return self._steps[precision]

    def start(
        self, slot: int, model: tuple[Tensor, ...], modulation: Modulation, samples: Tensor, boxes: Tensor
    ) -> None:
        """Start a slot; arguments as in ``TrackerState.start``."""
        if self._state is None:
            self._state = allocate(self.slots, self.settings.learning.memory, model, modulation, samples, boxes)
        self._state.start(slot, model, modulation, samples, boxes)
        self._last = None

    def track(self, frame: HostFrame) -> Array:
        """Track a frame of some slots; return ``TrackedStep.rows``, ``(s, 7)``."""
        crops, windows = cut_crops(frame, self.modalities)
        index = upload(frame.slots, self.device)
        state = self._started()
        whole = len(frame.slots) == self.slots
        target = state.target if whole else state.target.select(index)
        step = self.step()
        tracked = step(target, upload(crops, self.device), upload(frame.numbers(windows), self.device))
        store(state, tracked, index)
        self._last = tracked
        rows: Array = tracked.rows.cpu().numpy()  # the host waits here
        return rows

    def learn(self, slots: NDArray[np.int64], iterations: NDArray[np.int64]) -> None:
        """Improve the target models of some slots, ``(s,)``, by their iterations, ``(s,)``."""
        state, step = self._started(), self.step()
        for most in sorted(set(iterations.tolist()) - {0}):
            chosen = upload(slots[iterations == most], self.device)
            target = state.target.select(chosen)
            # Rows in use only; reading their number makes another device wait.
            used = int(target.count.max()) if self.device.type == "cpu" else len(target.weights)
            memory = [tensor[:used] for tensor in state.memory]
            if len(chosen) < self.slots:
                memory = [tensor.index_select(1, chosen) for tensor in memory]
            model = step.learn(
                target.model, memory[0], memory[1], target.weights[:used], torch.full_like(chosen, most), most
            )
            for tensor, values in zip(state.target.model, model, strict=True):
                tensor.index_copy_(0, chosen, values)

    def score_map(self, position: int) -> Tensor:
        """Return the score map ``(H', W')`` of the last frame's row at a position."""
        assert self._last is not None
        return self._last.score_maps[position]

    def _started(self) -> TrackerState:
        assert self._state is not None
        return self._state


def store(state: TrackerState, tracked: TrackedStep, index: Tensor) -> None:
    """Store the samples of tracked slots, and the memory's state."""
    placement = tracked.placement
    state.memory.write(placement.row, index, tracked.sample, tracked.box)
    state.target.weights.index_copy_(1, index, placement.weights)
    state.target.count.index_copy_(0, index, placement.count)
    state.target.newest.index_copy_(0, index, placement.newest)


