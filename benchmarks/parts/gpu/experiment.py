"""A part of gpu_speed.py: what every row depends on, and what all of them need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from parts.gpu.roofline import seconds_of

from mmdistill.reference.models.config import student_settings, teacher_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Experiment:
    """What every row depends on.

    Attributes:
        device: where.
        threads: of the processor; 0 for PyTorch's own choice.
        width: of the trunks.
        crop: pixels along a search area.
        teacher_depth: of the teacher's trunks.
        videos: numbers of videos tracked together.
        frames: of each, that are timed; the filter learns in every twentieth.
        warmup: frames before.
        rounds: how often each is timed; the median counts.
        seconds: of a round, but for trackings; at least one call.
        frame_width: pixels.
        frame_height: pixels.
        sequences: in a training batch.
        shots: training and test frames of each.
        sampling: the share of positions where SCFD is sampled.
        matmul: rows and columns of the matrices of the ceiling.
        copied: MiB of the copy of the ceiling.
    """

    device: str = "auto"
    threads: int = 0
    width: int = 64
    crop: int = 288
    teacher_depth: int = 50
    videos: tuple[int, ...] = (1, 8, 32, 128)
    frames: int = 80
    warmup: int = 10
    rounds: int = 3
    seconds: float = 0.3
    frame_width: int = 640
    frame_height: int = 480
    sequences: int = 26
    shots: int = 3
    sampling: float = 0.25
    matmul: int = 8192
    copied: int = 2048

    @property
    def place(self) -> torch.device:
        """The device."""
        return torch.device(self.device)

    def network(self, who: str) -> TrackerNetwork:
        """Return a random network."""
        torch.manual_seed(0)
        settings = student_settings(self.width, self.crop)
        if who == "teacher":
            settings = teacher_settings(self.teacher_depth, self.width, self.crop)  # type: ignore[arg-type]
        return TrackerNetwork(settings).eval().to(self.place)

    def autocast(self, precision: str) -> torch.autocast:
        """Return the context of a precision."""
        return torch.autocast(self.device, torch.bfloat16, enabled=precision == "bfloat16")

    def timed(self, call: Callable[[], object]) -> float:
        """Return how many seconds a call takes."""
        return seconds_of(call, self.place, rounds=self.rounds, seconds=self.seconds)
