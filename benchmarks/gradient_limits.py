"""Measures gradient limits per part or for all parts, with and without a warm-up of the distillation's weight.

A compact student with a random trunk learns by CMD from a teacher with ImageNet trunks, for the first steps of the
ablation's training. All rows have the same weights, samples and limit. The teacher's heads are random, or trained with
--teacher. The distillation's weights are the defaults of ``DistillationSettings``; --alpha replaces one. Takes 5
minutes on one core.

- Clip factor: the norm of a part's gradient after the limit, divided by the norm before.
- Below Adam's epsilon: the share of IoU-Net's gradient entries below 1e-8 after the limit. Adam moves them less.
- Share of step 0: how much of Adam's second moment, summed over a part, comes from step 0. Equal gradients at all steps
  would give one divided by the number of steps.

Example:
    python benchmarks/gradient_limits.py --pairs PAIRS --trunk resnet18.npz --out FILE.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from parts.ablation.rows import ROWS
from parts.ablation.runs import Experiment
from parts.ablation.sizes import SIZES
from parts.report_fields import machine
from torch import Tensor

from mmdistill.reference.importing.published import load_trunks
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.training.data_loader import Batch, BatchLoader, BatchShard
from mmdistill.reference.training.distillation import DistillationFeatures
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import DistillationSettings, TrainingSettings
from mmdistill.reference.training.stages import DistilledStage, Stage, SupervisedStage
from mmdistill.reference.training.train_step import TrainStep, parameter_group
from mmdistill.toolkit.io import write_text

SIZE = SIZES["cpu"]
ROW = ROWS["cmd"]
ADAM_EPSILON = 1e-8
CPU = torch.device("cpu")


class Variant(NamedTuple):
    """A row of the comparison.

    Attributes:
        title: title in the table.
        scope: ``clip_scope``; None for no limit.
        warm_up: whether the distillation's weight has a warm-up.
        distilled: whether the student has a teacher.
    """

    title: str
    scope: Literal["part", "all"] | None
    warm_up: bool = False
    distilled: bool = True


VARIANTS = (
    Variant("own loss alone, all parts", "all", distilled=False),
    Variant("CMD, no limit", None),
    Variant("CMD, all parts", "all"),
    Variant("CMD, each part", "part"),
    Variant("CMD, all parts, warm-up", "all", warm_up=True),
    Variant("CMD, each part, warm-up", "part", warm_up=True),
)

TABLE_PARTS = ("trunk", "iou_net")


class CachedTeacherStage(DistilledStage):
    """Computes the teacher's features once for each batch, for all students.

    Attributes:
        cache: the features by the batch's identity.
    """

    cache: dict[int, DistillationFeatures]

    def teacher_features(self, batch: Batch) -> DistillationFeatures:
        """Return the features of a batch, from the cache if they are there."""
        key = batch.test_boxes.data_ptr()
        if key not in self.cache:
            self.cache[key] = super().teacher_features(batch)
        return self.cache[key]


class MeasuredStep(TrainStep):
    """Records the norms of each part's gradient before and after the limit.

    Attributes:
        norms: for each step, the norms before and after by part.
        below_epsilon: for each step, the share of IoU-Net's entries below Adam's epsilon after the limit.
    """

    def __init__(self, stage: Stage, settings: TrainingSettings) -> None:
        super().__init__(stage, settings, CPU, DistributedContext())
        self.norms: list[dict[str, tuple[float, float]]] = []
        self.below_epsilon: list[float] = []

    def _clip_gradients(self) -> Tensor:
        before = self._part_norms()
        norm = super()._clip_gradients()
        after = self._part_norms()
        self.norms.append({part: (before[part], after[part]) for part in before})
        entries = torch.cat([each.flatten() for each in self._gradients()["iou_net"]])
        self.below_epsilon.append(float((entries.abs() < ADAM_EPSILON).float().mean()))
        return norm

    def _gradients(self) -> dict[str, list[Tensor]]:
        gradients: dict[str, list[Tensor]] = {}
        for name, parameter in self.stage.named_parameters():
            if parameter.grad is not None:
                gradients.setdefault(parameter_group(name), []).append(parameter.grad)
        return gradients

    def _part_norms(self) -> dict[str, float]:
        return {
            part: float(torch.stack([each.double().norm() for each in gradients]).norm())
            for part, gradients in self._gradients().items()
        }


def second_moment_share(norms: Sequence[float], decay: float = 0.999) -> float:
    """Return the share of the first step in Adam's second moment after the last step, summed over all entries.

    Args:
        norms: the gradient's norm at each step.
        decay: Adam's second beta.
    """
    moments = [decay ** (len(norms) - 1 - step) * norm**2 for step, norm in enumerate(norms)]
    return moments[0] / sum(moments)


def summarize(step: MeasuredStep) -> dict[str, Any]:
    """Return the figures of a student's steps."""
    parts: dict[str, dict[str, float]] = {}
    for part in step.norms[0]:
        before, after = zip(*(norms[part] for norms in step.norms), strict=True)
        factors = [new / old for old, new in zip(before, after, strict=True)]
        parts[part] = {
            "norm at step 0": before[0],
            "median norm": statistics.median(before),
            "clip factor at step 0": factors[0],
            "smallest clip factor": min(factors),
            "median clip factor": statistics.median(factors),
            "share of step 0 in the second moment": second_moment_share(after),
        }
    below = step.below_epsilon
    return {
        "parts": _rounded(parts),
        "iou_net entries below epsilon": _rounded({"at step 0": below[0], "median": statistics.median(below)}),
    }


def measure(
    variant: Variant,
    batches: Sequence[Batch],
    teacher: TrackerNetwork,
    cache: dict[int, DistillationFeatures],
    arguments: argparse.Namespace,
) -> Any:
    """Return a row: the figures of a student's first steps."""
    steps = len(batches)
    training = SIZE.student_training(0)
    training = replace(
        training,
        clip_grad_norm=training.clip_grad_norm if variant.scope else 0.0,
        clip_scope=variant.scope or "all",
        log_gradient_shares=steps,
    )
    torch.manual_seed(0)
    student = TrackerNetwork(SIZE.student_network(ROW))
    stage: Stage = SupervisedStage(student)
    if variant.distilled:
        warmup_steps = arguments.warmup_steps if variant.warm_up else 0
        settings = DistillationSettings(ROW.parts, alpha=arguments.alpha, warmup_steps=warmup_steps)
        stage = CachedTeacherStage(student, teacher, distillation=settings)
        stage.cache = cache
    step = MeasuredStep(stage, training)
    results = [step.run(number, [batch]) for number, batch in enumerate(batches)]
    prefix = "gradient norm "
    shares = {name.removeprefix(prefix): value for name, value in results[0].logged.items() if name.startswith(prefix)}
    return {
        "trunk gradient by term at step 0": _rounded(shares),
        "skipped steps": sum(bool(each.skipped) for each in results),
        **summarize(step),
    }


def table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of the rows."""
    header = ["Trunk, step 0", "Trunk, median", "IoU-Net, step 0", "IoU-Net, median", "Entries below 1e-8"]
    header += ["Step 0 in the second moment"]
    lines = [f"| Loss, limit | {' | '.join(header)} |", "| --- |" + " ---: |" * len(header)]
    for title, row in report["rows"].items():
        cells = [
            f"{row['parts'][part][f'{kind} at step 0' if kind == 'clip factor' else kind]:.2g}"
            for part in TABLE_PARTS
            for kind in ("clip factor", "median clip factor")
        ]
        cells.append(f"{100 * row['iou_net entries below epsilon']['at step 0']:.1f} %")
        cells.append(f"{100 * row['parts']['trunk']['share of step 0 in the second moment']:.0f} %")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def terms_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of the weighted terms' gradients at the trunk at step 0."""
    row = report["rows"]
    full, warm = (
        row[title]["trunk gradient by term at step 0"] for title in ("CMD, all parts", "CMD, all parts, warm-up")
    )
    lines = ["| Term | Norm at the trunk | With warm-up |", "| --- | ---: | ---: |"]
    ordered = sorted(full, key=lambda term: -full[term])
    return lines + [f"| `{term}` | {full[term]:.3g} | {warm[term]:.3g} |" for term in ordered]


def _rounded(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _rounded(value) for name, value in values.items()}
    return float(f"{values:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", required=True, help="folder of aligned pairs, from which video is composed")
    parser.add_argument("--trunk", required=True, help="ImageNet weights of the teacher's trunks")
    parser.add_argument("--teacher", help="network file of a trained teacher of the ablation's size; replaces --trunk")
    parser.add_argument("--steps", type=int, default=40, help="steps of each student; default 40")
    parser.add_argument("--warmup-steps", type=int, default=20, help="steps of the warm-up; default 20")
    alpha = DistillationSettings().alpha
    parser.add_argument("--alpha", type=float, default=alpha, help=f"weight of SCFD and MPSD; default {alpha}")
    parser.add_argument("--threads", type=int, default=1, help="threads; default 1")
    parser.add_argument("--out", type=Path, required=True, help="JSON report")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    start = time.time()
    if arguments.teacher:
        teacher = load_network(arguments.teacher)
    else:
        torch.manual_seed(SIZE.teacher.seed)
        teacher = TrackerNetwork(SIZE.teacher_network())
        load_trunks(teacher, arguments.trunk)
    experiment, network = Experiment(SIZE, arguments.pairs, arguments.trunk), SIZE.student_network(ROW)
    training = SIZE.student_training(0)
    sampler = Sampler(experiment.videos.training(), network.crop_size, network.search_area, training.samples)
    loader = BatchLoader(sampler, BatchShard(training.batch_size))
    batches = [loaded.batch.to(CPU) for loaded in loader.batches(0, arguments.steps)]
    rows: dict[str, Any] = {}
    cache: dict[int, DistillationFeatures] = {}
    for variant in VARIANTS:
        rows[variant.title] = measure(variant, batches, teacher, cache, arguments)
        print(f"{variant.title}: {time.time() - start:.0f} s", flush=True)
    report = {
        "machine": machine() | {"threads": arguments.threads},
        "steps": arguments.steps,
        "warm-up steps": arguments.warmup_steps,
        "teacher's heads": "trained" if arguments.teacher else "random",
        "training": training.identity(),
        "distillation": asdict(DistillationSettings(ROW.parts, alpha=arguments.alpha)),
        "rows": rows,
        "minutes": round((time.time() - start) / 60, 1),
    }
    write_text(arguments.out, json.dumps(report, indent=2) + "\n")
    print("\n".join(["", *table(report), "", *terms_table(report)]))


if __name__ == "__main__":
    main()
