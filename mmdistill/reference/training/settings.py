"""Settings of a training run, saved with its checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

from mmdistill.reference.training.sampler import SampleSettings
from mmdistill.toolkit.ranges import NonNegativeInt, PositiveInt, Range, Seed, check_fields

Rate = Annotated[float, Range(0, 100)]

IDENTITY_FIELDS = frozenset(
    {"steps", "batch_size", "grad_accumulation", "sync_batch_norm", "optimizer", "learning_rates", "weight_decay"}
    | {"warmup_steps", "decay_every", "decay_factor", "clip_grad_norm", "freeze_bn", "freeze_trunk"}
    | {"freeze_bn_after", "precision", "seed", "samples"}
)
"""Fields of ``TrainingSettings`` that change the result: a run resumes only with the same values."""


@dataclass(frozen=True)
class LearningRates:
    """The learning rate of each part; the defaults are DiMP's, for a trunk trained on ImageNet.

    Attributes:
        trunk: the feature extractor.
        fusion: the fusion of the modalities.
        classifier: classification features and filter initializer.
        optimizer: the filter optimizer's own parameters.
        iou_net: the box estimation.
        distillation: modules used in training only: ABF chains, adaptors and the baselines' regressors.
    """

    trunk: Rate = 2e-4
    fusion: Rate = 2e-4
    classifier: Rate = 5e-5
    optimizer: Rate = 5e-4
    iou_net: Rate = 1e-3
    distillation: Rate = 1e-3

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class TrainingSettings:
    """Length, batches and learning rates of a run; the defaults are DiMP's 50 epochs of 26,000 samples.

    Attributes:
        steps: number of training steps.
        batch_size: samples per batch, over all processes and passes.
        grad_accumulation: passes in which a process computes its part of a batch; their gradients are added.
        sync_batch_norm: share batch-norm statistics between processes; GPUs only.
        optimizer: ``"adam"`` or ``"adamw"``.
        learning_rates: one for each part.
        weight_decay: AdamW's weight decay.
        warmup_steps: steps in which the learning rates rise from zero.
        decay_every: steps after which the learning rates fall; 0 for a cosine from start to end.
        decay_factor: factor on the learning rates at each fall.
        clip_grad_norm: limit of the gradient's norm; 0 for no limit.
        freeze_bn: keep the running statistics of the trunk's batch norm, as a trunk with folded batch norm requires.
        freeze_trunk: do not train the trunk.
        freeze_bn_after: step from which all batch norm of the network keeps its running statistics, as in tracking;
            None for never. With a few samples per batch, the last third of a run needs it.
        checkpoint_every: steps between checkpoints. Does not change results.
        max_skipped: a run stops after this many skipped steps in a row; a step is skipped if its loss or gradient is
            not finite. Does not change results.
        max_replaced: a run stops if more samples than this had to be replaced because an image can't be read. Does not
            change results.
        precision: ``"float32"``, or ``"bfloat16"`` for autocast, about twice as fast on processors that support it.
        workers: processes that prepare batches; 0 for none. Does not change results.
        seed: seed of the samples and of the network's initial weights.
        samples: how samples are drawn.
    """

    steps: PositiveInt = 50_000
    batch_size: Annotated[int, Range(1, 10**6)] = 26
    grad_accumulation: Annotated[int, Range(1, 10**6)] = 1
    sync_batch_norm: bool = False
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rates: LearningRates = field(default_factory=LearningRates)
    weight_decay: Annotated[float, Range(0, 1000)] = 1e-4
    warmup_steps: NonNegativeInt = 0
    decay_every: NonNegativeInt = 15_000
    decay_factor: Annotated[float, Range(0, 10)] = 0.2
    clip_grad_norm: Annotated[float, Range(0, 10**9)] = 0.0
    freeze_bn: bool = False
    freeze_trunk: bool = False
    freeze_bn_after: NonNegativeInt | None = None
    checkpoint_every: PositiveInt = 500
    max_skipped: PositiveInt = 5
    max_replaced: NonNegativeInt = 1000
    precision: Literal["float32", "bfloat16"] = "float32"
    workers: Annotated[int, Range(0, 1024)] = 0
    seed: Seed = 0
    samples: SampleSettings = field(default_factory=SampleSettings)

    def __post_init__(self) -> None:
        check_fields(self)

    def identity(self) -> dict[str, object]:
        """Return the settings that change the result, by name."""
        return {name: value for name, value in asdict(self).items() if name in IDENTITY_FIELDS}
