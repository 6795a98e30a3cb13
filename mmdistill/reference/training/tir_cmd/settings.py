"""The settings of TIR-CMD's training: weights of its loss, and schedules.

The module imports no PyTorch, so that the command line can show its options fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from mmdistill.reference.training.settings import PartLearningRates, RateFactor, SampleSettings, TrainingSettings
from mmdistill.toolkit.ranges import PositiveInt, Range, Weight, check_fields

if TYPE_CHECKING:
    from mmdistill.tir_cmd import BranchSetting


@dataclass(frozen=True)
class CrossModalSettings:
    """Weights and options of TIR-CMD's loss (eq. 1 to 3).

    Attributes:
        box: lambda, the weight of BBE relative to TCL. Both tune different parameters, and Adam ignores the scale of
            gradients, so their learning rates matter instead.
        mu: weight of the filter's squared norm.
        nu: weight of the modulation's squared norm.
        residual: TCL's residual: ``"hinge"``, DiMP's own, or ``"squared"``, the paper's. The squared one moves DiMP's
            negative background scores to 0 and lowers the peaks (docs/tir.md has figures).
        layout: how settings with both modalities mix them: in halves of the batch, or side by side in one image.
    """

    box: Weight = 1.0
    mu: Weight = 1e-4
    nu: Weight = 1e-5
    residual: Literal["squared", "hinge"] = "hinge"
    layout: Literal["halves", "side-by-side"] = "halves"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Schedule:
    """Number of steps and learning rates of TIR-CMD's settings.

    Attributes:
        steps: training steps of each setting.
        rate_factor: factor on the setting's learning rates.
        halvings: number of periods after which the learning rates are halved; the last period may be incomplete.
        batch_size: patches per batch.
        checkpoint_every: steps between checkpoints.
        freeze_bn: keep the start's batch-norm statistics. The paper does not say; but in batches of five pairs, the
            trained network then differs from the one that tracks (docs/tir.md has figures).
    """

    steps: PositiveInt
    rate_factor: RateFactor = 1.0
    halvings: Annotated[float, Range(0, 1000, above=True)] = 50 / 15
    batch_size: Annotated[int, Range(1, 10**6)] = 5
    checkpoint_every: PositiveInt = 500
    freeze_bn: bool = True

    def __post_init__(self) -> None:
        check_fields(self)

    def training(self, setting: BranchSetting, **options: object) -> TrainingSettings:
        """Return a setting's training settings; ``options`` are further fields of ``TrainingSettings``."""
        rates = setting.learning_rates
        box, classification = ((rate or 0.0) * self.rate_factor for rate in (rates.bbe, rates.tcl))
        return TrainingSettings(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rates=PartLearningRates(iou_net=box, classifier=classification, optimizer=classification),
            decay_every=max(round(self.steps / self.halvings), 1),
            decay_factor=0.5,
            clip_grad_norm=0.0,  # every part has one loss
            freeze_trunk=True,
            freeze_bn_after=0 if self.freeze_bn else None,
            checkpoint_every=self.checkpoint_every,
            samples=SampleSettings(train_frames=1, test_frames=1),
            **options,  # type: ignore[arg-type]
        )


SCHEDULES: Mapping[str, Schedule] = {
    # 50 epochs of 26,000 samples, 5 a batch; halved every 15 epochs.
    "paper": Schedule(steps=50 * 26_000 // 5),
    # A thousandth of the steps and a hundred times the rates: Adam can move parameters a tenth as far.
    "short": Schedule(steps=260, rate_factor=100.0, checkpoint_every=50),
}
"""TIR-CMD's schedules by name."""
