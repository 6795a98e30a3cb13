"""Presets of the ablation: by the machine or the purpose that they are for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from parts.ablation.rows import Row

from mmdistill.reference.models.config import Depth, NetworkSettings, teacher_settings
from mmdistill.reference.synthetic import SyntheticSettings
from mmdistill.reference.training.data_sources import COMPOSED
from mmdistill.reference.training.settings import PartLearningRates, ProposalSettings, SampleSettings, TrainingSettings


class RateFactors(NamedTuple):
    """Factors on a student's learning rates; the other heads' rates do not change.

    Attributes:
        trunk: factor for the trunk and the distillation's own modules.
        fusion: factor for the fusion.
    """

    trunk: float = 1.0
    fusion: float = 1.0


@dataclass(frozen=True)
class BaselineCandidates:
    """Candidates for the weight of each baseline, as many as CMD has pairs of alpha and beta.

    Attributes:
        kd: candidates for knowledge distillation, on score maps.
        fitnets: candidates for FitNets.
        review: candidates for Knowledge Review.
        md: candidates for Modality Distillation.
    """

    kd: tuple[float, ...] = (1.0, 10.0, 100.0)
    fitnets: tuple[float, ...] = (10.0, 100.0, 1000.0)
    review: tuple[float, ...] = (10.0, 100.0, 1000.0)
    md: tuple[float, ...] = (10.0, 100.0, 1000.0)


@dataclass(frozen=True)
class Size:
    """Settings of an experiment, without the pairs and the trunk weights.

    Attributes:
        name: name of the preset.
        crop_size: crop size of all networks, pixels.
        width: width of the students' trunks.
        pretrained_student: whether the students' trunks start from the same weights as the teacher's.
        teacher_width: width of the teacher's trunks.
        teacher_depth: depth of the teacher's trunks.
        teacher: training of the teacher, once for all seeds.
        student: training of every student, apart from the seed.
        video: settings of composed video.
        train_videos: number of videos composed from training pairs.
        train_scenes: number of videos that view a single training pair.
        train_procedural: number of procedural videos; without pairs all videos are procedural.
        held_out: number of test videos composed from pairs, and number of procedural ones.
        held_out_length: frames per test and validation video.
        validation: like ``held_out``, for validation.
        validation_pairs: number of pairs for validation.
        test_pairs: number of pairs for testing, the last by name.
        factors: factors on the students' learning rates.
        alphas: candidates for alpha.
        betas: candidates for beta.
        baselines: candidates for the weights of baselines.
        choice_seeds: seeds of the trials; not among the seeds of the tables.
        choice_steps: training steps of the trials.
        batch_size: videos tracked at the same time; does not change results.
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
    factors: RateFactors
    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    baselines: BaselineCandidates
    choice_seeds: tuple[int, ...]
    choice_steps: int
    batch_size: int

    def teacher_network(self) -> NetworkSettings:
        """Return the teacher's settings: two trunks with MDC and FRS."""
        return self._labeled(teacher_settings(self.teacher_depth, self.teacher_width, self.crop_size))

    def student_network(self, row: Row) -> NetworkSettings:
        """Return the settings of a row's network."""
        return self._labeled(
            NetworkSettings(streams=row.streams, fusion=row.fusion, width=self.width, crop_size=self.crop_size)
        )

    def student_training(self, seed: int, steps: int | None = None) -> TrainingSettings:
        """Return the training of a student; with fewer steps, batch norm is frozen after the same share of them."""
        factors = self.factors
        training = self.student if steps is None else with_steps(self.student, steps)
        rates = training.learning_rates
        rates = replace(
            rates,
            trunk=factors.trunk * rates.trunk,
            distillation=factors.trunk * rates.distillation,
            fusion=factors.fusion * rates.fusion,
        )
        return replace(training, seed=seed, learning_rates=rates)

    def _labeled(self, settings: NetworkSettings) -> NetworkSettings:
        """Return settings with labels as many cells wide as on the published crops of 288 pixels."""
        return replace(settings, label_sigma=settings.label_sigma * 288 / self.crop_size)


def with_steps(training: TrainingSettings, steps: int) -> TrainingSettings:
    """Return a training with this number of steps; batch norm is frozen after half of them."""
    return replace(training, steps=steps, freeze_bn_after=steps // 2)


_SAMPLES = SampleSettings(train_frames=2, test_frames=2, contrast=0.4, proposals=ProposalSettings(count=32))

# A trunk from ImageNet, heads from random weights, cosine schedule.
_PRETRAINED_TRUNK = TrainingSettings(
    batch_size=8,
    learning_rates=PartLearningRates(
        trunk=5e-5, fusion=5e-4, classifier=5e-4, optimizer=1e-3, iou_net=1e-3, distillation=1e-3
    ),
    warmup_steps=20,
    decay_every=0,
    clip_grad_norm=10.0,
    checkpoint_every=50,
    precision="bfloat16",
    samples=_SAMPLES,
)

# A compact student from random weights. A student pretrained like the teacher leaves too small a gap.
_COMPACT_WIDTH = 16
_RANDOM_TRUNK = replace(_PRETRAINED_TRUNK, learning_rates=PartLearningRates(*[2e-3] * 6))

_GPU = Size(
    name="gpu",
    crop_size=224,
    width=_COMPACT_WIDTH,
    pretrained_student=False,
    teacher_width=64,
    teacher_depth=18,
    teacher=with_steps(replace(_PRETRAINED_TRUNK, workers=8, seed=1000), 2000),
    student=with_steps(replace(_RANDOM_TRUNK, workers=2), 800),
    video=replace(COMPOSED, length=24, speed=(1.0, 9.0)),
    train_videos=300,
    train_scenes=100,
    train_procedural=100,
    held_out=(48, 16),
    held_out_length=60,
    validation=(36, 12),
    validation_pairs=20,
    test_pairs=30,
    factors=RateFactors(2.5, 1.0),
    alphas=(0.001, 0.01, 0.1),
    betas=(100.0,),
    baselines=BaselineCandidates(),
    choice_seeds=(1000, 1001, 1002),
    choice_steps=400,
    batch_size=32,
)

_CPU = replace(
    _GPU,
    name="cpu",
    crop_size=128,
    teacher=with_steps(replace(_PRETRAINED_TRUNK, batch_size=4, seed=1000, clip_scope="all"), 3000),
    student=with_steps(replace(_RANDOM_TRUNK, batch_size=4), 500),
    video=replace(COMPOSED, length=24, size=(320, 240), target_size=(20.0, 54.0)),
    held_out_length=40,
    choice_steps=250,
    batch_size=4,
)

_PRETRAINED = replace(
    _CPU,
    name="pretrained",
    width=64,
    pretrained_student=True,
    student=with_steps(replace(_PRETRAINED_TRUNK, batch_size=4), 300),
    factors=RateFactors(),
    choice_steps=150,
)

# From random weights, as small as the demo.
_SMALL = TrainingSettings(
    batch_size=8,
    learning_rates=PartLearningRates(*[2e-3] * 6),
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
    teacher=with_steps(replace(_SMALL, seed=1000), 300),
    student=with_steps(_SMALL, 220),
    video=SyntheticSettings(length=24, speed=(1.0, 5.0)),
    train_videos=0,
    train_scenes=0,
    train_procedural=150,
    held_out=(0, 60),
    held_out_length=40,
    validation=(0, 12),
    factors=RateFactors(),
    choice_seeds=(1000,),
    choice_steps=110,
)

# The network inside the package, from free pictures: either modality may be missing.
_BUNDLED_SAMPLES = replace(_SAMPLES, missing=0.3)
BUNDLED = replace(
    _CPU,
    name="bundled",
    crop_size=160,
    width=32,
    teacher=with_steps(
        replace(_PRETRAINED_TRUNK, batch_size=8, seed=1000, clip_scope="all", samples=_BUNDLED_SAMPLES), 2500
    ),
    student=with_steps(replace(_RANDOM_TRUNK, samples=_BUNDLED_SAMPLES), 3000),
    video=replace(COMPOSED, length=24, size=(320, 240), target_size=(16.0, 70.0), target_aspect=(0.33, 3.0)),
    train_videos=600,
    train_scenes=0,
    train_procedural=150,
)

SIZES: Mapping[str, Size] = {size.name: size for size in (_GPU, _CPU, _PRETRAINED, _NIGHTLY)}


def _tried(size: Size) -> str:
    alphas, betas = ("/".join(f"{value:g}" for value in values) for values in (size.alphas, size.betas))
    return f"{alphas}, {betas}"


def table() -> list[str]:
    """Return the lines of a Markdown table of the presets and the paper's settings."""

    def samples(training: TrainingSettings) -> str:
        return f"{training.steps * training.batch_size:,} in batches of {training.batch_size}"

    rows: list[tuple[str, str, Callable[[Size], str]]] = [
        ("Teacher's trunks", "two ResNet-50", lambda size: f"two ResNet-{size.teacher_depth}"),
        ("Trunk width, teacher and student", "64, 64", lambda size: f"{size.teacher_width}, {size.width}"),
        (
            "Student's initial trunk",
            "ImageNet",
            lambda size: "ImageNet" if size.pretrained_student else "random",
        ),
        ("Crop size", "288 pixels", lambda size: f"{size.crop_size} pixels"),
        ("Teacher's samples", "1,300,000 in batches of 26", lambda size: samples(size.teacher)),
        ("Student's samples", "1,300,000 in batches of 26", lambda size: samples(size.student)),
        (
            "Train and test frames per sample",
            "3 and 3",
            lambda size: f"{size.student.samples.train_frames} and {size.student.samples.test_frames}",
        ),
        (
            "Batch norm",
            "batch statistics",
            lambda size: f"frozen after step {size.student.freeze_bn_after:,} of {size.student.steps:,}",
        ),
        ("Precision", "not stated", lambda size: size.student.precision),
        ("Alpha and beta tried", "0.001, 100", _tried),
        ("Seeds and steps of the choice", "not stated", lambda size: f"{len(size.choice_seeds)}, {size.choice_steps}"),
        ("Test sequences", "234 (RGBT234)", lambda size: str(sum(size.held_out))),
        ("Frames per sequence", "about 500", lambda size: str(size.held_out_length)),
    ]
    names = [f"`--size {name}`" for name in SIZES]
    lines = [f"| | The paper | {' | '.join(names)} |", "| --- | " + "--- | " * (1 + len(SIZES))]
    lines[1] = lines[1].rstrip()
    lines += [
        f"| {name} | {paper} | {' | '.join(text(size) for size in SIZES.values())} |" for name, paper, text in rows
    ]
    return lines
