"""Runs the functions of a tracked frame on the state of all slots: called as they are, or replayed as CUDA graphs."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmdistill.reference.crops import MAX_DOWNSCALING
from mmdistill.reference.device import upload
from mmdistill.reference.models.folding import cast_for_autocast
from mmdistill.reference.models.iou_net import Modulation
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.tracking.cuda_graph import CapturedFunction
from mmdistill.reference.tracking.frame_inputs import HostFrame, Windows, cut_crops, num_numbers
from mmdistill.reference.tracking.settings import TrackingSettings
from mmdistill.reference.tracking.state import TrackerState, allocate
from mmdistill.reference.tracking.step import TrackedStep, TrackStep, resize_windows
from mmdistill.toolkit.boxes import Array

UPLOADS = 4
"""Parts of a frame's windows. Threads copy them at the same time, and each is uploaded as soon as it is copied."""


class StepRunner:
    """Holds the state, and calls the functions on the slots of a frame.

    On the CPU the host resizes the crops and IoU features are computed in windows: both are faster there.

    Args:
        network: with folded batch norms.
        settings: the constants of tracking.
        slots: S, the number of slots.
        compiled: whether ``torch.compile`` compiles the functions.
    """

    def __init__(
        self, network: TrackerNetwork, settings: TrackingSettings, slots: int, *, compiled: bool = False
    ) -> None:
        self.network, self.settings, self.slots, self.compiled = network, settings, slots, compiled
        self.modalities = 2 if network.settings.modality == "rgbt" else 1
        parameter = next(network.parameters())
        self.device = parameter.device
        self.windowed = self.device.type == "cpu"
        self._state: TrackerState | None = None
        self._steps: dict[torch.dtype | None, TrackStep] = {}
        self._tracked: TrackedStep | None = None
        self._slots: list[int] = []

    def precision(self) -> torch.dtype | None:
        """Return the dtype of autocast; None if it is off."""
        kind = self.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

    def step(self) -> TrackStep:
        """Return the functions for the present autocast. Their weights have its dtype, so none is cast in a frame."""
        precision = self.precision()
        if precision not in self._steps:
            network = self.network if precision is None else cast_for_autocast(self.network, precision)
            step = self._steps[precision] = TrackStep(network, self.settings, windowed=self.windowed)
            if self.compiled:
                step.compile_functions()
        return self._steps[precision]

    def start(
        self, slot: int, model: tuple[Tensor, ...], modulation: Modulation, samples: Tensor, boxes: Tensor
    ) -> None:
        """Start a slot; arguments as in ``TrackerState.start``."""
        if self._state is None:
            self._state = allocate(self.slots, self.settings.learning.memory, model, modulation, samples, boxes)
        self._state.start(slot, model, modulation, samples, boxes)
        self._tracked, self._slots = None, []

    def track(self, frame: HostFrame) -> Array:
        """Track a frame of some slots; return ``TrackedStep.rows``, ``(s, 7)``."""
        crops = cut_crops(frame, self.modalities)
        index = upload(frame.slots, self.device)
        state = self._started()
        whole = len(frame.slots) == self.slots
        target = state.target if whole else state.target.select(index)
        step = self.step()
        tracked = step(target, upload(crops, self.device), upload(frame.numbers(), self.device))
        store(state, tracked, index)
        self._tracked, self._slots = tracked, frame.slots.tolist()
        rows: Array = tracked.rows.cpu().numpy()  # the host waits here
        return rows

    def learn(self, slots: NDArray[np.int64], iterations: NDArray[np.int64]) -> None:
        """Improve the target models of some slots, ``(s,)``, by their iterations, ``(s,)``."""
        state, step = self._started(), self.step()
        for most in sorted(set(iterations.tolist()) - {0}):
            chosen = upload(slots[iterations == most], self.device)
            target = state.target.select(chosen)
            # Rows in use only; reading their number makes another device wait.
            used = int(target.num_samples.max()) if self.device.type == "cpu" else len(target.weights)
            memory = [tensor[:used] for tensor in state.memory]
            if len(chosen) < self.slots:
                memory = [tensor.index_select(1, chosen) for tensor in memory]
            model = step.learn(
                target.model, memory[0], memory[1], target.weights[:used], torch.full_like(chosen, most), most
            )
            for tensor, values in zip(state.target.model, model, strict=True):
                tensor.index_copy_(0, chosen, values)

    def score_map(self, slot: int) -> Tensor:
        """Return the score map ``(H', W')`` of a slot that was in the last frame."""
        assert self._tracked is not None
        return self._tracked.score_maps[self._slots.index(slot)]

    def _started(self) -> TrackerState:
        assert self._state is not None
        return self._state


def store(state: TrackerState, tracked: TrackedStep, index: Tensor) -> None:
    """Store the samples of tracked slots, and the memory's state."""
    placement = tracked.placement
    state.memory.write(placement.row, index, tracked.sample, tracked.box)
    state.target.weights.index_copy_(1, index, placement.weights)
    state.target.num_samples.index_copy_(0, index, placement.num_samples)
    state.target.newest.index_copy_(0, index, placement.newest)


class GraphRunner(StepRunner):
    """Replays the functions as CUDA graphs of all slots; slots without a frame run along and keep their state.

    The host copies bytes only; the device resizes and normalizes. Another autocast captures again.

    Args:
        network: with folded batch norms.
        settings: the constants of tracking.
        slots: S, the number of slots.
        compiled: whether ``torch.compile`` compiles the functions.
        graphs: ``torch.cuda``, or a stand-in, see ``CapturedFunction``.
    """

    def __init__(
        self,
        network: TrackerNetwork,
        settings: TrackingSettings,
        slots: int,
        *,
        compiled: bool = False,
        graphs: Any = torch.cuda,
    ) -> None:
        super().__init__(network, settings, slots, compiled=compiled)
        self.windowed = False
        self._graphs = graphs
        pin = self.device.type == "cuda"
        crop = network.settings.crop_size
        self._max_side = MAX_DOWNSCALING * crop  # larger search areas are averaged on the host
        self._pixels = torch.zeros(slots * self.modalities * self._max_side**2, 3, dtype=torch.uint8, pin_memory=pin)
        self._rows = torch.zeros(slots, self.modalities, 2, crop, dtype=torch.int64, pin_memory=pin)
        self._columns = torch.zeros(slots, 2, crop, dtype=torch.int64, pin_memory=pin)
        self._weights = torch.zeros(slots, 2, 2, crop, dtype=torch.int32, pin_memory=pin)
        count = num_numbers(1 + settings.refinement.random_boxes)
        # Ones are valid numbers for slots without a video.
        self._numbers = torch.ones(slots, count, dtype=torch.float64, pin_memory=pin)
        self._all = torch.arange(slots, device=self.device)
        self._threads = ThreadPoolExecutor(min(UPLOADS, os.cpu_count() or 1), "windows")
        self._track: CapturedFunction[TrackedStep] | None = None
        self._learn: dict[int, CapturedFunction[tuple[Tensor, ...]]] = {}

    def track(self, frame: HostFrame) -> Array:
        """See ``StepRunner``."""
        track, key = self._captured_track(), self.precision()
        small = (self._rows, self._columns, self._weights, self._numbers)
        track.capture(self._pixels, *small, key=key)
        pixels, videos = track.inputs[0], len(frame.slots)
        windows = Windows(frame, self.modalities, self._max_side)
        bounds = [part * videos // UPLOADS for part in range(UPLOADS + 1)]
        parts = [range(*pair) for pair in pairwise(bounds) if pair[0] < pair[1]]
        # With one part a thread would only cost time.
        run = self._threads.map if len(parts) > 1 else map
        first = 0
        for positions, _ in zip(parts, run(partial(windows.copy_to, self._pixels.numpy()), parts), strict=True):
            last = int(windows.ends[positions[-1]])
            pixels[first:last].copy_(self._pixels[first:last], non_blocking=True)
            first = last
        numbers = self._numbers.numpy()
        numbers[:, 0] = 0  # inactive
        for tensor, values in zip(small, (*windows.taps(), frame.numbers()), strict=True):
            tensor.numpy()[frame.slots] = values
        self._tracked, self._slots = track(pixels, *small, key=key), list(range(self.slots))
        rows: Array = self._tracked.rows.cpu().numpy()  # the host waits here
        return rows[frame.slots]

    def learn(self, slots: NDArray[np.int64], iterations: NDArray[np.int64]) -> None:  # noqa: ARG002
        """See ``StepRunner``."""
        most = int(iterations.max(initial=0))
        if not most:
            return
        if most not in self._learn:
            self._learn[most] = CapturedFunction(
                partial(self._learn_all, most),
                state=self._started().target.model,
                device=self.device,
                graphs=self._graphs,
            )
        assert self._tracked is not None
        self._learn[most](self._tracked.iterations, key=self.precision())

    def _captured_track(self) -> CapturedFunction[TrackedStep]:
        if self._track is None:
            target, memory = self._started()
            state = (*memory, target.weights, target.num_samples, target.newest)
            self._track = CapturedFunction(self._track_all, state=state, device=self.device, graphs=self._graphs)
        return self._track

    def _track_all(
        self, windows: Tensor, rows: Tensor, columns: Tensor, weights: Tensor, numbers: Tensor
    ) -> TrackedStep:
        state = self._started()
        crops = resize_windows(windows, rows, columns, weights)
        tracked: TrackedStep = self.step()(state.target, crops, numbers)
        store(state, tracked, self._all)
        return tracked

    def _learn_all(self, most: int, iterations: Tensor) -> tuple[Tensor, ...]:
        """Improve the target models in place, and return them."""
        target, memory = self._started()
        samples, boxes = (tensor[: len(target.weights)] for tensor in memory)
        model = self.step().learn(target.model, samples, boxes, target.weights, iterations, most)
        for tensor, values in zip(target.model, model, strict=True):
            tensor.copy_(values)
        return target.model
