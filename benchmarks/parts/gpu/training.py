"""A part of gpu_speed.py: training steps a second with and without each loss, and where their time goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from parts.gpu.experiment import Experiment
from parts.gpu.profile import device_profile
from parts.gpu.roofline import counted, of_ceilings
from torch import Tensor

from mmdistill import CMDLoss, HFRDLoss, MPSDLoss, Pair, SCFDLoss
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.distillation import DistillationFeatures
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.settings import LearningRates, TrainingSettings
from mmdistill.reference.training.stages import DistilledStage, SupervisedStage
from mmdistill.reference.training.train_step import TrainStep

PARTS: dict[str, tuple[str, ...]] = {
    "SCFD": ("scfd",),
    "SCFD sampled": ("scfd sampled",),
    "MPSD": ("mpsd",),
    "HFRD": ("hfrd",),
    "all": ("scfd", "mpsd", "hfrd"),
    "all, SCFD sampled": ("scfd sampled", "mpsd", "hfrd"),
}
"""What a student is trained with beside its own loss."""


class TaughtOnceStage(DistilledStage):
    """Asks the teacher once, so that later steps cost what the losses cost, without the teacher."""

    first: DistillationFeatures | None = None

    def teacher_features(self, batch: Batch) -> DistillationFeatures:
        """Return the teacher's features of the first batch."""
        if self.first is None:
            self.first = super().teacher_features(batch)
        return self.first


class Training:
    """Takes steps on a batch of noise."""

    def __init__(self, experiment: Experiment, ceiling: Callable[[], Mapping[str, float]]) -> None:
        self.experiment, self.ceiling = experiment, ceiling

    def rate(self, part: str, precision: str) -> dict[str, Any]:
        """Return the steps a second of a training, its peak memory, and which shares of the ceilings it reaches."""
        step = self.step(part, precision)
        if self.experiment.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = self.experiment.timed(step)
        shares = of_ceilings(counted(step), seconds, self.ceiling())
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.experiment.device == "cuda" else None
        return {"steps a second": 1 / seconds, "milliseconds": 1000 * seconds, "peak GiB": peak, **shares}

    def step(self, part: str, precision: str) -> Callable[[], None]:
        """Return a training's step, which learns at a rate of zero, so that each is like the other."""
        batch = self.batch()
        if part != "alone, batch from the host":
            batch = batch.to(self.experiment.place)
        if part in ("alone", "alone, batch from the host", "the teacher's own"):
            who = "teacher" if "teacher" in part else "student"
            stage: SupervisedStage | DistilledStage = SupervisedStage(self.experiment.network(who))
        else:
            parts = PARTS["all" if part == "all, teacher asked" else part]
            kind = DistilledStage if part == "all, teacher asked" else TaughtOnceStage
            stage = kind(self.experiment.network("student"), self.experiment.network("teacher"))
            stage.distillation = self.losses(stage, parts).to(self.experiment.place)
            with self.experiment.autocast(precision):
                stage.teacher_features(batch)
        rates = LearningRates(**{each.name: 0.0 for each in fields(LearningRates)})
        settings = TrainingSettings(batch_size=self.experiment.sequences, learning_rates=rates, precision=precision)  # type: ignore[arg-type]
        train_step = TrainStep(stage, settings, self.experiment.place, DistributedContext())

        def step() -> None:
            result = train_step.run(0, [batch])
            assert not result.skipped, result.skipped

        return step

    def losses(self, stage: DistilledStage, parts: Sequence[str]) -> CMDLoss:
        """Return the losses of some parts for a stage's networks."""
        student, teacher = stage.network.channels, stage.teacher.channels
        sampling = self.experiment.sampling if "scfd sampled" in parts else 1.0
        return CMDLoss(
            SCFDLoss(student, teacher, sampling=sampling) if any(part.startswith("scfd") for part in parts) else None,
            MPSDLoss(student[2:], teacher[2:]) if "mpsd" in parts else None,
            HFRDLoss() if "hfrd" in parts else None,
        )

    def batch(self) -> Batch:
        """Return a batch of noise, with a target in the middle of each crop."""
        generator = torch.Generator().manual_seed(0)
        shots, sequences, crop = self.experiment.shots, self.experiment.sequences, self.experiment.crop

        def images() -> Pair[Tensor]:  # of 8 bits, as the loader gives them
            shape = (shots, sequences, crop, crop, 3)
            pixels = [torch.randint(256, shape, dtype=torch.uint8, generator=generator) for _ in range(2)]
            return Pair(*(each.movedim(-1, 2) for each in pixels))

        target = torch.tensor([0.4, 0.4, 0.2, 0.2]) * crop
        boxes = target.expand(shots, sequences, 4).contiguous()
        noise = torch.randn(shots, sequences, 8, 4, generator=generator) * 0.02 * crop
        overlaps = torch.rand(shots, sequences, 8, generator=generator)
        return Batch(images(), boxes, images(), boxes, target + noise, overlaps)

    def profile(self, part: str) -> dict[str, Any]:
        """Return where the time of a training step goes."""
        return device_profile(
            self.step(part, "bfloat16"), self.experiment.place, calls=2, seconds=self.experiment.seconds
        )
