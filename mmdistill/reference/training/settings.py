"""The settings of training, saved with checkpoints: samples, runs and losses.

The module imports no PyTorch, so that the command line can show its options fast.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

from mmdistill.toolkit.ranges import (
    NON_EMPTY,
    NonNegativeInt,
    PositiveInt,
    Probability,
    Range,
    Seed,
    Weight,
    check_fields,
)

Rate = Annotated[float, Range(0, 100)]
RateFactor = Annotated[float, Range(0, 10**9)]

Part = Literal["scfd", "mpsd", "hfrd"]
"""Parts of CMD."""

Baseline = Literal["kd", "fitnets", "review", "md"]
"""Baselines: knowledge distillation, FitNets, Knowledge Review, Modality Distillation."""

Interaction = Literal["sem", "cem", "add"]
"""The same as ``mmdistill.interaction.Interaction``, whose module needs PyTorch; a test compares the two."""

Reduction = Literal["sum", "mean"]
"""The reduction of SCFD and MPSD."""

IDENTITY_FIELDS = frozenset(
    {"steps", "batch_size", "grad_accumulation", "sync_batch_norm", "optimizer", "learning_rates", "weight_decay"}
    | {"warmup_steps", "decay_every", "decay_factor", "clip_grad_norm", "clip_scope", "freeze_bn"}
    | {"freeze_trunk", "freeze_bn_after", "precision", "seed", "samples"}
)
"""Fields of ``TrainingSettings`` that change the result: a run resumes only with the same values."""


@dataclass(frozen=True)
class ProposalSettings:
    """Settings of the box proposals that train the IoU-Net.

    Attributes:
        count: proposals per frame.
        deviations: standard deviations of the Gaussian noise on center and log size, relative to the box; each
            proposal draws one of them.
        minimum_iou: a proposal with a smaller IoU is drawn again, with a smaller deviation.
    """

    count: Annotated[int, Range(1, 10_000)] = 8
    deviations: Annotated[tuple[Annotated[float, Range(0, 10)], ...], NON_EMPTY] = (0.01, 0.05, 0.1, 0.2, 0.3)
    minimum_iou: Annotated[float, Range(0, 0.9)] = 0.1

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Jitter:
    """Random offset and scale of a crop relative to its target.

    Attributes:
        center: the offset per axis is uniform within +- half of this times the square root of the target's area.
        scale: standard deviation of the logarithm of the factor on the target's size.
    """

    center: Annotated[float, Range(0, 100)]
    scale: Annotated[float, Range(0, 2)]

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class SampleSettings:
    """Settings of the samples; the defaults are DiMP's.

    Attributes:
        train_frames: reference frames per sample.
        test_frames: test frames per sample.
        gap: maximum distance of a sample's frames from its middle frame, in frames.
        train_jitter: jitter of the reference crops.
        test_jitter: jitter of the test crops.
        gray: probability that all RGB crops of a sample are converted to gray.
        brightness: each crop's brightness is multiplied by a factor uniform within 1 +- this.
        contrast: standard deviation of the logarithm of the factor on each crop's contrast; DiMP has none.
        swap: probability that a sample's modalities are swapped, so that a tracker of one modality learns from both;
            DiMP has one modality.
        missing: probability that a sample lacks one of its modalities, either with equal probability. The other one
            replaces it, as in tracking.
        proposals: settings of the IoU-Net's box proposals.
    """

    train_frames: Annotated[int, Range(1, 1000)] = 3
    test_frames: Annotated[int, Range(1, 1000)] = 3
    gap: Annotated[int, Range(0, 10**6)] = 30
    train_jitter: Jitter = Jitter(center=3.0, scale=0.25)
    test_jitter: Jitter = Jitter(center=4.5, scale=0.5)
    gray: Probability = 0.05
    brightness: Annotated[float, Range(0, 1)] = 0.2
    contrast: Annotated[float, Range(0, 5)] = 0.0
    swap: Probability = 0.0
    missing: Probability = 0.0
    proposals: ProposalSettings = field(default_factory=ProposalSettings)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class PartLearningRates:
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
        clip_grad_norm: limit of the gradient's norm; 0 for no limit, as in DiMP.
        clip_scope: ``"part"`` limits the norm of each part by itself, with the parts of ``learning_rates``. ``"all"``
            limits the norm of all parts together: a large gradient of one part shrinks the gradients of all others.
        freeze_bn: keep the running statistics of the trunk's batch norm, as a trunk with folded batch norm requires.
        freeze_trunk: do not train the trunk.
        freeze_bn_after: step from which all batch norm of the network keeps its running statistics, as in tracking;
            None for never. With a few samples per batch, the last third of a run needs it.
        checkpoint_every: steps between checkpoints. Does not change results.
        max_skipped: a run stops after this many skipped steps in a row; a step is skipped if its loss or gradient is
            not finite. Does not change results.
        max_replaced: a run stops if more samples than this had to be replaced because an image can't be read. Does not
            change results.
        log_gradient_shares: steps between logs of each weighted term's gradient at the trunk: its norm and its share. 0
            for never. A logged step computes one more backward pass per term. Does not change results.
        compile: compile the network and the losses with ``torch.compile``. The first step takes minutes; later steps
            are faster on a GPU. Changes results in rounding only.
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
    learning_rates: PartLearningRates = field(default_factory=PartLearningRates)
    weight_decay: Annotated[float, Range(0, 1000)] = 1e-4
    warmup_steps: NonNegativeInt = 0
    decay_every: NonNegativeInt = 15_000
    decay_factor: Annotated[float, Range(0, 10)] = 0.2
    clip_grad_norm: Annotated[float, Range(0, 10**9)] = 10.0
    clip_scope: Literal["part", "all"] = "part"
    freeze_bn: bool = False
    freeze_trunk: bool = False
    freeze_bn_after: NonNegativeInt | None = None
    checkpoint_every: PositiveInt = 500
    max_skipped: PositiveInt = 5
    max_replaced: NonNegativeInt = 1000
    log_gradient_shares: NonNegativeInt = 0
    compile: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    workers: Annotated[int, Range(0, 1024)] = 0
    seed: Seed = 0
    samples: SampleSettings = field(default_factory=SampleSettings)

    def __post_init__(self) -> None:
        check_fields(self)

    def identity(self) -> dict[str, object]:
        """Return the settings that change the result, by name."""
        return {name: value for name, value in asdict(self).items() if name in IDENTITY_FIELDS}


@dataclass(frozen=True)
class TrackingLossSettings:
    """Weights of the tracking loss; the defaults are DiMP's.

    Attributes:
        box: weight of the squared error of the predicted IoU, which is on the scale -1 to 1.
        last: weight of the last filter iterate's scores.
        first: weight of the initial filter's scores.
        middle: weight of the iterates in between, as a mean over them.
        threshold: labels below it are background: only positive scores are errors there.
    """

    box: Weight = 1.0
    last: Weight = 100.0
    first: Weight = 100.0
    middle: Weight = 400.0
    threshold: Annotated[float, Range(0, 1)] = 0.05

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class BaselineWeights:
    """The weight of each baseline. CMD's alpha and beta do not apply to baselines.

    Attributes:
        kd: weight of knowledge distillation, on score maps.
        fitnets: weight of FitNets, on features.
        review: weight of Knowledge Review, on features.
        md: weight of Modality Distillation, on fused features.
    """

    kd: Weight = 100.0
    fitnets: Weight = 100.0
    review: Weight = 100.0
    md: Weight = 100.0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class DistillationSettings:
    """Losses and weights of distillation; the defaults are the paper's.

    Attributes:
        parts: any of ``"scfd"``, ``"mpsd"``, ``"hfrd"`` (CMD) and ``"kd"``, ``"fitnets"``, ``"review"``, ``"md"``
            (baselines).
        alpha: weight of CMD's losses on features, SCFD and MPSD.
        beta: weight of CMD's loss on score maps, HFRD.
        reduction: ``"sum"`` or ``"mean"`` of SCFD's and MPSD's squared errors over channels and positions. Means need
            an alpha that is larger by the size of a map, such as 100 (docs/losses.md, "Which alpha and beta").
        interaction: SCFD's interaction at each level, shallow to deep. CMD's Table 2 has one for all levels in AFD, SED
            and CED.
        shared_chain: use one ABF chain for both modalities.
        residual: HFRD's residual.
        weigh_label: HFRD's corrected response weighs the label too, so that the label is the optimum.
        baselines: the weight of each baseline.
        warmup_steps: steps n in which the weights of all these losses rise linearly. Their factor at step k is
            (k + 1) / (n + 1), at most 1.
    """

    parts: Annotated[tuple[Part | Baseline, ...], NON_EMPTY] = ("scfd", "mpsd", "hfrd")
    alpha: Weight = 1e-3
    beta: Weight = 100.0
    reduction: Reduction = "sum"
    interaction: tuple[Interaction, Interaction, Interaction, Interaction] = ("sem", "sem", "sem", "cem")
    shared_chain: bool = False
    residual: Literal["mse", "hinge"] = "mse"
    weigh_label: bool = False
    baselines: BaselineWeights = field(default_factory=BaselineWeights)
    warmup_steps: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_fields(self)
