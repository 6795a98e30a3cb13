"""How large the demonstration is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from mmdistill.reference.data.proposals import ProposalSettings
from mmdistill.reference.data.sampling import SampleSettings
from mmdistill.reference.data.synthetic import SyntheticSettings
from mmdistill.reference.networks.settings import NetworkSettings, student_settings, teacher_settings
from mmdistill.reference.ranges import Range, check_fields
from mmdistill.reference.training.settings import LearningRates, TrainingSettings
from mmdistill.reference.training.stages import DistillationSettings


def _small(settings: NetworkSettings) -> NetworkSettings:
    """Return the settings for small crops, with labels as many cells wide as on the published 288-pixel crops."""
    return replace(settings, crop_size=128, label_sigma=settings.label_sigma * 288 / 128)


@dataclass(frozen=True)
class DemoSettings:
    """How large the demonstration is: what two CPU cores do in a few minutes.

    Attributes:
        teacher: a wide two-stream network.
        student: a narrow one-stream network.
        training: of all three.
        distillation: CMD, as ``mmdistill train student`` has it.
        video: what the synthetic video is like.
        train_sequences: sequences to learn from.
        test_sequences: held-out sequences to score on.
    """

    teacher: NetworkSettings = field(default_factory=lambda: _small(teacher_settings(depth=18, width=20)))
    student: NetworkSettings = field(default_factory=lambda: _small(student_settings(width=8)))
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            steps=220,
            sequences=8,
            learning_rates=LearningRates(*[2e-3] * 6),  # every part starts from random weights
            warmup_steps=20,
            decay_every=0,
            gradient_limit=10.0,
            checkpoint_every=100,
            samples=SampleSettings(train_frames=2, test_frames=2, proposals=ProposalSettings(count=16)),
        )
    )
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    video: SyntheticSettings = field(default_factory=lambda: SyntheticSettings(length=40))
    train_sequences: Annotated[int, Range(1, 10**6)] = 150
    test_sequences: Annotated[int, Range(1, 10**6)] = 24

    def __post_init__(self) -> None:
        check_fields(self)
