"""Settings of gpu_speed.py, and networks and timing that all rows share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from parts.gpu.roofline import time_call

from mmdistill.reference.models.config import student_settings, teacher_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Experiment:
    """Settings of all rows.

    Attributes:
        device: auto, cpu or cuda.
        threads: CPU threads; 0 for PyTorch's default.
        width: width of the trunks.
        crop: side of the crops, pixels.
        teacher_depth: ResNet depth of the teacher's trunks.
        videos: numbers of videos per batch.
        frames: timed frames per video; the filter is updated every 20 frames.
        warmup: frames before the timed ones.
        rounds: measurements per row; the median is reported.
        seconds: seconds per round, at least one call; not for tracking.
        frame_width: width of the frames, pixels.
        frame_height: height of the frames, pixels.
        batch_size: samples per training batch.
        frames_per_sample: train frames, and test frames, per sample.
        sampling: share of positions of sampled SCFD.
        matmul_size: rows and columns of the matrices that measure the arithmetic ceiling.
        copy_mib: MiB of the copy that measures the bandwidth ceiling.
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
    batch_size: int = 26
    frames_per_sample: int = 3
    sampling: float = 0.25
    matmul_size: int = 8192
    copy_mib: int = 2048

    @property
    def torch_device(self) -> torch.device:
        """The device."""
        return torch.device(self.device)

    def network(self, name: str) -> TrackerNetwork:
        """Return the student or the teacher with random weights."""
        torch.manual_seed(0)
        settings = student_settings(self.width, self.crop)
        if name == "teacher":
            settings = teacher_settings(self.teacher_depth, self.width, self.crop)  # type: ignore[arg-type]
        return TrackerNetwork(settings).eval().to(self.torch_device)

    def autocast(self, precision: str) -> torch.autocast:
        """Return the autocast context of a precision."""
        return torch.autocast(self.device, torch.bfloat16, enabled=precision == "bfloat16")

    def timed(self, call: Callable[[], object]) -> float:
        """Return the seconds per call."""
        return time_call(call, self.torch_device, rounds=self.rounds, seconds=self.seconds)
