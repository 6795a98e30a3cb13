"""The functions of a tracked frame, with a state in which something was learned and a frame of small videos."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import torch
from drawn_target import network
from test_batch_tracker import CLIPS, NETWORKS, SETTINGS
from torch import Tensor, nn

from mmdistill.reference.tracking.batch_tracker import BatchTracker
from mmdistill.reference.tracking.frame_inputs import HostFrame, cut_crops
from mmdistill.reference.tracking.state import SampleMemory, TargetState
from mmdistill.reference.tracking.step import TrackedStep, TrackStep
from mmdistill.toolkit.boxes import Array

VIDEOS = [CLIPS[index] for index in (0, 1, 3, 4)]
FRAMES = 4
"""Frames before the one of a case; the filter has learned in the third."""


class StepCase(NamedTuple):
    """The functions, and the inputs of S slots.

    Attributes:
        step: the functions.
        target: the state before the frame.
        memory: the samples.
        pixels: see ``TrackStep.forward``.
        numbers: see ``TrackStep.forward``.
        boxes: the last boxes, ``(S, 4)``, ``x y w h`` in image pixels.
    """

    step: TrackStep
    target: TargetState
    memory: SampleMemory
    pixels: Tensor
    numbers: Tensor
    boxes: Array

    @property
    def frame(self) -> tuple[TargetState, Tensor, Tensor]:
        """The arguments of ``TrackStep.forward``."""
        return self.target, self.pixels, self.numbers

    @property
    def samples(self) -> tuple[Tensor | tuple[Tensor, ...], ...]:
        """The arguments of ``Learn``; the slots have 2, 0, 1 and 2 iterations."""
        rows = len(self.target.weights)
        iterations = torch.tensor([2, 0, 1, 2])[: len(self.target.num_samples)]
        return self.target.model, self.memory.samples[:rows], self.memory.boxes[:rows], self.target.weights, iterations


class Learn(nn.Module):
    """``TrackStep.learn`` of at most some iterations, as a module."""

    def __init__(self, step: TrackStep, most: int = 2) -> None:
        super().__init__()
        self.step, self.most = step, most

    def forward(
        self, model: tuple[Tensor, ...], samples: Tensor, boxes: Tensor, weights: Tensor, iterations: Tensor
    ) -> tuple[Tensor, ...]:
        return self.step.learn(model, samples, boxes, weights, iterations, self.most)


@cache
def step_case(name: str, slots: int) -> StepCase:
    """Return the functions of a network of ``test_batch_tracker``, and the inputs of the first videos."""
    settings, tracking = NETWORKS[name]
    tracking = replace(tracking, localization=SETTINGS.localization)  # targets are found
    tracker = BatchTracker(network(settings), tracking, slots=slots, seed=5)
    runner, frames, videos = tracker._runner, [], VIDEOS[:slots]
    track = runner.track

    def noted(frame: HostFrame) -> object:
        frames.append(frame)
        return track(frame)

    runner.track = noted  # type: ignore[assignment,method-assign]
    for slot, video in enumerate(videos):
        tracker.start(slot, video.frame(0), video.boxes[0])
    for index in range(1, 1 + FRAMES):
        boxes = tracker._host.targets.box.copy()
        target, memory = runner._started()
        before = target.select(torch.arange(slots)), SampleMemory(*(values.clone() for values in memory))
        tracker.step(range(slots), [video.frame(index) for video in videos])
    pixels = torch.from_numpy(cut_crops(frames[-1], runner.modalities))
    numbers = torch.from_numpy(frames[-1].numbers())
    return StepCase(TrackStep(tracker.network, tracking), *before, pixels, numbers, boxes)


def select_slots(case: StepCase, *slots: int) -> StepCase:
    """Return the case with some of its slots."""
    index = torch.tensor(slots)
    memory = SampleMemory(*(values[:, index] for values in case.memory))
    pixels, numbers, boxes = case.pixels[index], case.numbers[index], case.boxes[index.numpy()]
    return StepCase(case.step, case.target.select(index), memory, pixels, numbers, boxes)


def assert_close(got: TrackedStep | tuple[Tensor, ...], expected: TrackedStep | tuple[Tensor, ...]) -> None:
    """Assert that all tensors are equal but for rounding."""
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
