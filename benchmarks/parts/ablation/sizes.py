"""How large the ablation is: on a GPU, on two CPU cores, with a student that is no smaller, and for every night."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from parts.ablation.rows import Row

from mmdistill.reference.models.config import Depth, NetworkSettings, teacher_settings
from mmdistill.reference.synthetic import SyntheticSettings
from mmdistill.reference.training.data_sources import COMPOSED
from mmdistill.reference.training.settings import LearningRates, ProposalSettings, SampleSettings, TrainingSettings


class Factors(NamedTuple):
    """On a student's learning rates; the other heads keep theirs.

    Attributes:
        trunk: of the trunk and of what only distillation trains.
        fusion: of the fusion.
    """

    trunk: float = 1.0
    fusion: float = 1.0


@dataclass(frozen=True)
class Chosen:
    """What all rows take alike, chosen on validation video.

    Attributes:
        factors: on learning rates.
        alpha: weight of what compares features.
        beta: weight of what compares scores.
    """

    factors: Factors
    alpha: float
    beta: float


@dataclass(frozen=True)
class Size:
    """What every result depends on, but the pairs and the trunk's weights.

    Attributes:
        name: of the preset.
        crop_size: of all networks.
        width: of the students' trunks.
        pretrained_student: whether the students' trunks start from the trunk's weights, as the teacher's do.
        teacher_width: of the teacher's.
        teacher_depth: of the teacher's.
        teacher: how it is trained, once for all seeds.
        student: how every student is trained, but for the seed.
        video: what is composed.
        train_videos: composed from training pairs.
        train_scenes: views of one training pair each.
        train_procedural: made of random numbers alone, as all videos are where there are no pairs.
        held_out: videos composed from test pairs, and as many procedural ones as the second number.
        held_out_length: frames of each.
        validation: as ``held_out``.
        validation_pairs: pairs for validation.
        test_pairs: pairs for testing, the last by name.
        factors: that are tried on learning rates; the only ones are taken untried.
        alphas: that are tried.
        betas: that are tried with each.
        choice_seeds: of the students that are trained for the choice; not among the seeds of the tables.
        choice_steps: how long these are trained.
        together: how many videos are tracked at once.
    """

    name: str
    crop_size: int
    width: int
    pretrained_student: bool
    teacher_width: int
    teacher_depth: Depth
    teacher: TrainingSettings
    student: TrainingSettings
    video: SyntheticSettings
    train_videos: int
    train_scenes: int
    train_procedural: int
    held_out: tuple[int, int]
    held_out_length: int
    validation: tuple[int, int]
    validation_pairs: int
    test_pairs: int
    factors: tuple[Factors, ...]
    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    choice_seeds: tuple[int, ...]
    choice_steps: int
    together: int

    def teacher_network(self) -> NetworkSettings:
        """Return two trunks with MDC and FRS."""
        return self._labeled(teacher_settings(self.teacher_depth, self.teacher_width, self.crop_size))

    def student_network(self, row: Row) -> NetworkSettings:
        """Return a row's network."""
        return self._labeled(
            NetworkSettings(streams=row.streams, fusion=row.fusion, width=self.width, crop_size=self.crop_size)
        )

    def student_training(self, seed: int, factors: Factors, steps: int | None = None) -> TrainingSettings:
        """Return how a student of a seed is trained; statistics are kept for the same share of fewer steps."""
        training = self.student if steps is None else lasting(self.student, steps)
        rates = training.learning_rates
        rates = replace(
            rates,
            trunk=factors.trunk * rates.trunk,
            distillation=factors.trunk * rates.distillation,
            fusion=factors.fusion * rates.fusion,
        )
        return replace(training, seed=seed, learning_rates=rates)

    def _labeled(self, settings: NetworkSettings) -> NetworkSettings:
        """Return settings whose labels are as many cells wide as on the published crops of 288 pixels."""
        return replace(settings, label_sigma=settings.label_sigma * 288 / self.crop_size)


def lasting(training: TrainingSettings, steps: int) -> TrainingSettings:
    """Return a training of so many steps; from half of them on batch norm's statistics are kept, as in tracking."""
    return replace(training, steps=steps, freeze_bn_after=steps // 2)


_FRAMES = SampleSettings(train_frames=2, test_frames=2, contrast=0.4, proposals=ProposalSettings(count=32))

# A trunk from ImageNet that is tuned, heads from random weights. The learning rates fall along a cosine.
_TUNED = TrainingSettings(
    batch_size=8,
    learning_rates=LearningRates(
        trunk=5e-5, fusion=5e-4, classifier=5e-4, optimizer=1e-3, iou_net=1e-3, distillation=1e-3
    ),
    warmup_steps=20,
    decay_every=0,
    clip_grad_norm=10.0,
    checkpoint_every=50,
    precision="bfloat16",
    samples=_FRAMES,
)

# A compact student, all of it from random weights: one as pretrained as the teacher's trunks is too near to it.
_COMPACT = 16
_LEARNED = replace(_TUNED, learning_rates=LearningRates(*[2e-3] * 6))

_GPU = Size(
    name="gpu",
    crop_size=224,
    width=_COMPACT,
    pretrained_student=False,
    teacher_width=64,
    teacher_depth=18,
    teacher=lasting(replace(_TUNED, workers=8, seed=1000), 2000),
    student=lasting(replace(_LEARNED, workers=2), 800),
    video=replace(COMPOSED, length=24, speed=(1.0, 9.0)),
    train_videos=300,
    train_scenes=100,
    train_procedural=100,
    held_out=(48, 16),
    held_out_length=60,
    validation=(36, 12),
    validation_pairs=20,
    test_pairs=30,
    factors=(Factors(2.5, 1.0),),
    alphas=(10.0, 100.0, 1000.0),
    betas=(100.0, 10.0),
    choice_seeds=(1000,),
    choice_steps=400,
    together=32,
)

_CPU = replace(
    _GPU,
    name="cpu",
    crop_size=160,
    teacher=lasting(replace(_TUNED, batch_size=4, seed=1000), 1000),
    student=lasting(replace(_LEARNED, batch_size=4), 600),
    video=replace(COMPOSED, length=24, size=(320, 240), target_size=(20.0, 54.0)),
    held_out_length=40,
    factors=(Factors(2.5, 1.0), Factors(2.5, 0.1)),
    alphas=(100.0, 1000.0),
    betas=(100.0,),
    choice_steps=600,
    together=4,
)

_PRETRAINED = replace(
    _CPU,
    name="pretrained",
    width=64,
    pretrained_student=True,
    student=lasting(replace(_TUNED, batch_size=4), 400),
    factors=(Factors(),),
    alphas=_GPU.alphas,
    betas=_GPU.betas,
)

# From random weights, as small as the demonstration.
_SMALL = TrainingSettings(
    batch_size=8,
    learning_rates=LearningRates(*[2e-3] * 6),
    warmup_steps=20,
    decay_every=0,
    clip_grad_norm=10.0,
    checkpoint_every=100,
    samples=SampleSettings(train_frames=2, test_frames=2, proposals=ProposalSettings(count=16)),
)

_NIGHTLY = replace(
    _CPU,
    name="nightly",
    crop_size=128,
    width=8,
    teacher_width=20,
    teacher=lasting(replace(_SMALL, seed=1000), 300),
    student=lasting(_SMALL, 220),
    video=SyntheticSettings(length=24, speed=(1.0, 5.0)),
    train_videos=0,
    train_scenes=0,
    train_procedural=150,
    held_out=(0, 60),
    held_out_length=40,
    validation=(0, 12),
    factors=(Factors(),),
    alphas=(1.0, 100.0),
    betas=(100.0,),
    choice_steps=100,
)

SIZES: Mapping[str, Size] = {size.name: size for size in (_GPU, _CPU, _PRETRAINED, _NIGHTLY)}
"""The presets."""


def table() -> list[str]:
    """Return the lines of a Markdown table of the sizes beside the paper's."""

    def samples(training: TrainingSettings) -> str:
        return f"{training.steps * training.batch_size:,} in batches of {training.batch_size}"

    rows: list[tuple[str, str, Callable[[Size], str]]] = [
        ("teacher's trunks", "two ResNet-50", lambda size: f"two ResNet-{size.teacher_depth}"),
        ("trunks' width, teacher and student", "64, 64", lambda size: f"{size.teacher_width}, {size.width}"),
        (
            "the student's trunk starts from",
            "ImageNet's weights",
            lambda size: "ImageNet's weights" if size.pretrained_student else "random ones",
        ),
        ("crops", "288 pixels", lambda size: f"{size.crop_size} pixels"),
        ("teacher's samples", "1,300,000 in batches of 26", lambda size: samples(size.teacher)),
        ("student's samples", "1,300,000 in batches of 26", lambda size: samples(size.student)),
        (
            "frames of a sample",
            "3 and 3",
            lambda size: f"{size.student.samples.train_frames} and {size.student.samples.test_frames}",
        ),
        (
            "batch norm",
            "by batches",
            lambda size: f"kept from step {size.student.freeze_bn_after:,} of {size.student.steps:,}",
        ),
        ("precision", "not said", lambda size: size.student.precision),
        ("test sequences", "234 (RGBT234)", lambda size: str(sum(size.held_out))),
        ("frames of each", "about 500", lambda size: str(size.held_out_length)),
    ]
    names = [f"`--size {name}`" for name in SIZES]
    lines = [f"| | The paper | {' | '.join(names)} |", "| --- | " + "--- | " * (1 + len(SIZES))]
    lines[1] = lines[1].rstrip()
    lines += [
        f"| {what} | {paper} | {' | '.join(said(size) for size in SIZES.values())} |" for what, paper, said in rows
    ]
    return lines
