"""Measures the gradient variance that ``SCFDLoss(sampling=...)`` adds, relative to the variance of the batch.

Uses a narrow student and two random ResNet-18 trunks as teacher, on synthetic video at full resolution, after some
exact steps. The gradient is that of the student's trunk. For each share it reports the mean squared distance of a
sampled gradient from the same batch's exact one: relative to the trace of the exact gradient's covariance over batches
(``of the batch``), and to the squared norm of their mean (``of the gradient``). Measures both reductions. Takes 5
minutes on one core.

Example:
    python benchmarks/sampling_variance.py --out benchmarks/results/sampling_variance.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast, get_args

import torch
from parts.report_fields import machine
from torch import Tensor

from mmdistill import Pair, SCFDLoss, Terms
from mmdistill._numerics import Reduction
from mmdistill._subsampling import grid_strides
from mmdistill.reference.crops import to_tensor
from mmdistill.reference.models.resnet import ResNetTrunk
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.toolkit.sequence import Image


@dataclass(frozen=True)
class Experiment:
    """Settings.

    Attributes:
        student_width: width of the student's trunk.
        teacher_width: width of the teacher's trunks.
        crop: crop size, pixels.
        batch: image pairs per batch.
        batches: number of batches for the batch variance.
        draws: draws of positions per batch and share.
        warmup: exact steps before the measurement.
        shares: sampled shares, as 1 over each number.
    """

    student_width: int = 16
    teacher_width: int = 16
    crop: int = 288
    batch: int = 8
    batches: int = 10
    draws: int = 4
    warmup: int = 20
    shares: tuple[int, ...] = (2, 4, 9)


class Distillation:
    """A student's trunk, a frozen teacher's two, and the loss between them."""

    def __init__(self, settings: Experiment, reduction: Reduction) -> None:
        self.student = ResNetTrunk(18, settings.student_width)
        self.teachers = Pair(*(ResNetTrunk(18, settings.teacher_width).requires_grad_(False) for _ in Pair._fields))
        self.loss = SCFDLoss(self.student.channels, self.teachers.rgb.channels, reduction=reduction)

    def total(self, images: Pair[Tensor]) -> Tensor:
        """Return the loss of a batch."""
        halves = [level.chunk(2) for level in self.student(torch.cat(images))]
        levels = Pair([rgb for rgb, _ in halves], [tir for _, tir in halves])
        terms: Terms = self.loss(levels, Pair(*(trunk(x) for trunk, x in zip(self.teachers, images, strict=True))))
        return terms.total

    def gradient(self, images: Pair[Tensor], share: int = 1) -> Tensor:
        """Return the gradient of the student's parameters as one vector, at one over this share of the positions."""
        self.loss.sampling, self.loss.strides = 1 / share, grid_strides(1 / share)
        gradients = torch.autograd.grad(self.total(images), list(self.student.parameters()))
        return torch.cat([gradient.flatten() for gradient in gradients]).double()


def batches(settings: Experiment, count: int) -> list[Pair[Tensor]]:
    """Return batches of frames from different videos."""
    videos = synthetic_sequences(
        count * settings.batch, seed=0, settings=SyntheticSettings(size=(settings.crop, settings.crop), length=1)
    )
    frames = [video.frame(0) for video in videos]
    pairs = [frames[start : start + settings.batch] for start in range(0, len(frames), settings.batch)]
    return [Pair(*(to_tensor([cast(Image, frame[side]) for frame in part]) for side in (0, 1))) for part in pairs]


def learn(distillation: Distillation, training_batches: list[Pair[Tensor]]) -> None:
    """Take one exact step on each batch, so that the student is not random."""
    parameters = [*distillation.student.parameters(), *distillation.loss.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    for images in training_batches:
        optimizer.zero_grad()
        distillation.total(images).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def measure(settings: Experiment, reduction: Reduction) -> dict[str, dict[str, float]]:
    """Return the variance of each share."""
    torch.manual_seed(0)
    distillation = Distillation(settings, reduction)
    all_batches = batches(settings, settings.warmup + settings.batches)
    learn(distillation, all_batches[: settings.warmup])
    measured = all_batches[settings.warmup :]
    exact = torch.stack([distillation.gradient(images) for images in measured])
    gradient = exact.mean(dim=0).square().sum().item()
    of_batch = exact.var(dim=0).sum().item()
    variances = {"batch": {"of the gradient": round(of_batch / gradient, 3)}}
    for share in settings.shares:
        distances = [
            (distillation.gradient(images, share) - whole).square().sum().item()
            for images, whole in zip(measured, exact, strict=True)
            for _ in range(settings.draws)
        ]
        added = sum(distances) / len(distances)
        variances[f"1/{share}"] = {
            "of the gradient": round(added / gradient, 3),
            "of the batch": round(added / of_batch, 3),
        }
    return variances


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of what each share adds, for both reductions."""
    of, columns = ("of the batch", "of the gradient"), get_args(Reduction)
    titles = [f"{name}, {part}" for name in columns for part in of]
    lines = [f"| Sampling | {' | '.join(titles)} |", f"| --- |{' ---: |' * len(titles)}"]
    for share in report["variance"]["sum"]:
        if share != "batch":
            cells = [f"{100 * report['variance'][name][share][part]:.1f} %" for name in columns for part in of]
            lines.append(f"| {share} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON report")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    settings = Experiment()
    variance = {reduction: measure(settings, reduction) for reduction in get_args(Reduction)}
    text = json.dumps({"machine": machine(), "experiment": asdict(settings), "variance": variance}, indent=2)
    print(text)
    if out is not None:
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()
