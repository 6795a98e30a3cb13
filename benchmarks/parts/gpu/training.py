"""Speed of training steps with and without each loss, and their profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from parts.gpu.experiment import Experiment
from parts.gpu.profile import device_profile
from parts.gpu.roofline import count_operations, shares_of_ceilings
from torch import Tensor

from mmdistill import CMDLoss, HFRDLoss, MPSDLoss, Pair, SCFDLoss
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.distillation import DistillationFeatures
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.settings import PartLearningRates, TrainingSettings
from mmdistill.reference.training.stages import DistilledStage, SupervisedStage
from mmdistill.reference.training.train_step import TrainStep

STUDENT_ALONE, FROM_HOST, WITH_TEACHER, TEACHER = (
    "student alone",
    "student alone, batch from the host",
    "all, with the teacher",
    "teacher",
)
"""Trainings besides ``PARTS``."""

PARTS: dict[str, tuple[str, ...]] = {
    "SCFD": ("scfd",),
    "SCFD sampled": ("scfd sampled",),
    "MPSD": ("mpsd",),
    "HFRD": ("hfrd",),
    "all": ("scfd", "mpsd", "hfrd"),
    "all, SCFD sampled": ("scfd sampled", "mpsd", "hfrd"),
}
"""Losses in addition to the student's own, by name; the teacher's features are computed once."""


class CachedTeacherStage(DistilledStage):
    """Computes the teacher's features once, so that later steps measure the losses without the teacher."""

    first: DistillationFeatures | None = None

    def teacher_features(self, batch: Batch) -> DistillationFeatures:
        """Return the teacher's features of the first batch."""
        if self.first is None:
            self.first = super().teacher_features(batch)
        return self.first


class TrainingSpeed:
    """Measures training steps on a batch of noise."""

    def __init__(self, experiment: Experiment, ceiling: Callable[[], Mapping[str, float]]) -> None:
        self.experiment, self.ceiling = experiment, ceiling

    def rate(self, part: str, precision: str, *, compiled: bool = False) -> dict[str, Any]:
        """Return steps per second, peak memory, and shares of the ceilings."""
        operations = count_operations(self.step(part, precision))  # compiled code can't be counted
        step = self.step(part, precision, compiled=compiled)
        step()
        if self.experiment.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = self.experiment.timed(step)
        shares = shares_of_ceilings(operations, seconds, self.ceiling())
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.experiment.device == "cuda" else None
        return {"steps per second": 1 / seconds, "milliseconds": 1000 * seconds, "peak GiB": peak, **shares}

    def step(self, part: str, precision: str, *, compiled: bool = False) -> Callable[[], None]:
        """Return a training step with learning rates of zero, so that all steps are alike."""
        batch = self.batch()
        if part != FROM_HOST:
            batch = batch.to(self.experiment.torch_device)
        if part in (STUDENT_ALONE, FROM_HOST, TEACHER):
            name = "teacher" if part == TEACHER else "student"
            stage: SupervisedStage | DistilledStage = SupervisedStage(self.experiment.network(name))
        else:
            parts = PARTS["all" if part == WITH_TEACHER else part]
            kind = DistilledStage if part == WITH_TEACHER else CachedTeacherStage
            stage = kind(self.experiment.network("student"), self.experiment.network("teacher"))
            stage.distillation = self.losses(stage, parts).to(self.experiment.torch_device)
            with self.experiment.autocast(precision):
                stage.teacher_features(batch)
        rates = PartLearningRates(**{each.name: 0.0 for each in fields(PartLearningRates)})
        options: dict[str, Any] = {"precision": precision}
        if compiled:  # an earlier commit's settings have no such field
            options["compile"] = True
        settings = TrainingSettings(batch_size=self.experiment.batch_size, learning_rates=rates, **options)
        train_step = TrainStep(stage, settings, self.experiment.torch_device, DistributedContext())

        def step() -> None:
            result = train_step.run(0, [batch])
            assert not result.skipped, result.skipped

        return step

    def losses(self, stage: DistilledStage, parts: Sequence[str]) -> CMDLoss:
        """Return the losses for a stage's networks."""
        student, teacher = stage.network.channels, stage.teacher.channels
        sampling = self.experiment.sampling if "scfd sampled" in parts else 1.0
        return CMDLoss(
            SCFDLoss(student, teacher, sampling=sampling) if any(part.startswith("scfd") for part in parts) else None,
            MPSDLoss(student[2:], teacher[2:]) if "mpsd" in parts else None,
            HFRDLoss() if "hfrd" in parts else None,
        )

    def batch(self) -> Batch:
        """Return a batch of noise with a target in the middle of each crop."""
        generator = torch.Generator().manual_seed(0)
        frames, samples = self.experiment.frames_per_sample, self.experiment.batch_size
        crop = self.experiment.crop

        def images() -> Pair[Tensor]:  # of 8 bits, as the loader returns them
            shape = (frames, samples, crop, crop, 3)
            pixels = [torch.randint(256, shape, dtype=torch.uint8, generator=generator) for _ in range(2)]
            return Pair(*(each.movedim(-1, 2) for each in pixels))

        target = torch.tensor([0.4, 0.4, 0.2, 0.2]) * crop
        boxes = target.expand(frames, samples, 4).contiguous()
        noise = torch.randn(frames, samples, 8, 4, generator=generator) * 0.02 * crop
        overlaps = torch.rand(frames, samples, 8, generator=generator)
        return Batch(images(), boxes, images(), boxes, target + noise, overlaps)

    def profile(self, part: str) -> dict[str, Any]:
        """Return the profile of a training step."""
        return device_profile(
            self.step(part, "bfloat16"), self.experiment.torch_device, calls=2, seconds=self.experiment.seconds
        )
