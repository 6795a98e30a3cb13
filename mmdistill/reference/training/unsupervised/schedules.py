"""How long and how fast TIR-CMD trains: the paper's schedule, and a short one for trying out, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from mmdistill.reference.data.sampling import SampleSettings
from mmdistill.reference.ranges import PositiveInt, Range, check_fields
from mmdistill.reference.training.settings import LearningRates, TrainingSettings
from mmdistill.unsupervised import BranchSetting

RateFactor = Annotated[float, Range(0, 10**9)]


@dataclass(frozen=True)
class Schedule:
    """Steps and learning rates, for any setting.

    Attributes:
        steps: training steps of each setting.
        rate_factor: what the setting's learning rates are multiplied by.
        halvings: how often the learning rates are halved, at equal distances, the last of which is cut short.
        sequences: patches in a batch.
        checkpoint_every: steps between checkpoints.
        kept_statistics: whether what is tuned keeps the start's batch-norm statistics. The paper tunes them too; in
            batches of five pairs what learns is then another function than what tracks (docs/tir.md has figures).
    """

    steps: PositiveInt
    rate_factor: RateFactor = 1.0
    halvings: Annotated[float, Range(0, 1000, above=True)] = 50 / 15
    sequences: Annotated[int, Range(1, 10**6)] = 5
    checkpoint_every: PositiveInt = 500
    kept_statistics: bool = True

    def __post_init__(self) -> None:
        check_fields(self)

    def training(self, setting: BranchSetting, **options: object) -> TrainingSettings:
        """Return how a setting is trained; options go to the ``TrainingSettings``."""
        rates = setting.learning_rates
        box, classification = ((rate or 0.0) * self.rate_factor for rate in (rates.bbe, rates.tcl))
        return TrainingSettings(
            steps=self.steps,
            sequences=self.sequences,
            learning_rates=LearningRates(iou_net=box, classifier=classification, optimiser=classification),
            decay_every=max(round(self.steps / self.halvings), 1),
            decay_factor=0.5,
            frozen_trunk=True,
            statistics_until=0 if self.kept_statistics else None,
            checkpoint_every=self.checkpoint_every,
            samples=SampleSettings(train_frames=1, test_frames=1),
            **options,  # type: ignore[arg-type]
        )


SCHEDULES: Mapping[str, Schedule] = {
    # 50 epochs of 26,000 samples, 5 a batch; halved every 15 epochs.
    "paper": Schedule(steps=50 * 26_000 // 5),
    # Steps a thousandth of the paper's, rates a hundred times: a tenth of the way that Adam can go.
    "short": Schedule(steps=260, rate_factor=100.0, checkpoint_every=50),
}
"""The schedules by name."""
