"""How a run is trained; saved with its checkpoint."""

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
"""The fields of ``TrainingSettings`` that change what is trained: a run goes on only with the same."""


@dataclass(frozen=True)
class LearningRates:
    """The learning rate of each part; DiMP's by default, for a trunk that was trained on ImageNet.

    Attributes:
        trunk: the feature extractor.
        fusion: how the modalities are fused.
        classifier: classification features and filter initializer.
        optimizer: the filter optimizer's own parameters.
        iou_net: the box estimation.
        distillation: what only training needs: ABF chains, adaptors and the rivals' regressors.
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
    """How long, how fast and on what a run learns; the defaults are DiMP's 50 epochs of 26,000 samples.

    Attributes:
        steps: training steps in all.
        batch_size: samples of a batch, over all processes and passes.
        grad_accumulation: passes in which a process computes its part of a batch; their gradients are added.
        sync_batch_norm: whether the processes' batch norm shares its statistics; on GPUs alone.
        optimizer: ``"adam"`` or ``"adamw"``.
        learning_rates: per part.
        weight_decay: of AdamW.
        warmup_steps: over how many steps the learning rates rise from zero.
        decay_every: after how many steps the learning rates fall; 0 for a cosine from start to end instead.
        decay_factor: what they are multiplied by then.
        clip_grad_norm: the gradient's norm is clipped to this; 0 for no limit.
        freeze_bn: whether the trunk's batch norm keeps its running statistics, as a folded trunk must.
        freeze_trunk: whether the trunk is not trained at all.
        freeze_bn_after: from this step on the network's batch norm keeps its running statistics, as in tracking; None
            for never. A run with a few sequences a batch needs it for its last third or so.
        checkpoint_every: steps between checkpoints. Does not change results.
        max_skipped: after how many steps in a row that were skipped, because their loss or gradient was not finite,
            a run stops. Does not change results.
        max_replaced: how many samples may be replaced by others, because their images can't be read, before a run
            stops. Does not change results.
        precision: ``"float32"``, or ``"bfloat16"`` for autocast: about twice as fast where the processor has it.
        workers: processes that prepare batches; 0 for none. Does not change results.
        seed: of the samples and of the network's initial weights.
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
        """Return what changes the result, by name."""
        return {name: value for name, value in asdict(self).items() if name in IDENTITY_FIELDS}
