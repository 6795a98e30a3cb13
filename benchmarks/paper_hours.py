"""Counts the arithmetic of the paper's trainings at full size, and estimates their hours on eight GPUs.

Counts the multiply-adds of trunks, fusions and feature losses on crops of 288 pixels with PyTorch's flop counter on the
meta device. A trained network costs three times its forward pass on all frames of a sample; the losses use the test
frames only; the frozen teacher runs once. DiMP's heads, element-wise operations and data loading are not counted. The
hours assume a throughput that is not measured. Takes half a minute on one core.

Example:
    python benchmarks/paper_hours.py --out benchmarks/results/paper_hours.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from loss_costs import CROP, losses, multiply_adds
from parts.ablation.rows import ROWS, Row

from mmdistill import Pair
from mmdistill.reference.models.config import NetworkSettings, teacher_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.distillation import Teacher
from mmdistill.toolkit.io import write_text

TEACHER = "teacher"

LOSSES = {
    "scfd": "SCFDLoss",
    "mpsd": "MPSDLoss",
    "hfrd": "HFRDLoss",
    "kd": "KDLoss",
    "fitnets": "FitNetsLoss",
    "review": "ReviewKDLoss",
    "md": "ModalityDistillationLoss",
}
"""Part of the distillation to its name in ``loss_costs``."""


@dataclass(frozen=True)
class Schedule:
    """DiMP's schedule, with batches that divide by eight GPUs.

    Attributes:
        samples: samples of the whole training: 50 epochs of 26,000.
        epochs_between: epochs between falls of the learning rates.
        batch_size: samples per batch.
        train_frames: train frames per sample.
        test_frames: test frames per sample.
        gpus: GPUs that share a batch.
        tera_flops: throughput of a GPU in 10^12 operations per second; assumed, not measured.
    """

    samples: int = 50 * 26_000
    epochs_between: int = 15
    batch_size: int = 32
    train_frames: int = 3
    test_frames: int = 3
    gpus: int = 8
    tera_flops: float = 10.0

    @property
    def steps(self) -> int:
        """Number of training steps."""
        return self.samples // self.batch_size

    @property
    def decay_every(self) -> int:
        """Steps between falls of the learning rates."""
        return self.epochs_between * 26_000 // self.batch_size


SCHEDULE = Schedule()

FRAMES = {"RGBT234": 116_656, "GTOT": 7_850, "LasHeR, test": 220_703}
"""Frames of the benchmarks, from their ground truth."""

PAPER_FRAMES_PER_SECOND = 30
"""Speed of the paper's student on a GTX 1080 Ti."""


def options(row: Row) -> str:
    """Return a row's options of ``mmdistill train student``, without data, trunk and teacher."""
    texts = [f"--fusion {row.fusion}"] if row.fusion != "mpsd" else []
    texts += [f"--streams {row.streams}"] if row.streams != 1 else []
    if row.parts and row.parts != ("scfd", "mpsd", "hfrd"):
        texts.append(f"--distillation.parts {' '.join(row.parts)}")
    if row.interaction != Row("", "mpsd").interaction:
        texts.append(f"--distillation.interaction {' '.join(row.interaction)}")
    texts += ["--distillation.weigh-label"] if row.weigh_label else []
    return " ".join(texts)


def count_extraction(settings: NetworkSettings) -> int:
    """Return the multiply-adds of trunks and fusions for one pair of crops."""
    with torch.device("meta"):
        network = TrackerNetwork(settings).eval()
    images = Pair(*(torch.empty(1, 3, CROP, CROP, device="meta") for _ in "ab"))
    return multiply_adds(network.extract, images)


def count_teacher(parts: Collection[str], schedule: Schedule) -> int:
    """Return the multiply-adds of the teacher's features for these losses, per sample."""
    with torch.device("meta"):
        teacher = Teacher(TrackerNetwork(teacher_settings()), parts)
        train, test = (
            (Pair(*(torch.empty(frames, 1, 3, CROP, CROP) for _ in "ab")), torch.empty(frames, 1, 4))
            for frames in (schedule.train_frames, schedule.test_frames)
        )
        batch = Batch(*train, *test, proposals=test[1][:, :, None], overlaps=test[1][:, :, :1])
    return multiply_adds(teacher.features, batch)


def count(schedule: Schedule = SCHEDULE) -> dict[str, dict[str, float]]:
    """Return operations per step, 10^12, and estimated hours for the teacher and each row."""
    costs, teacher = losses(), count_extraction(teacher_settings())
    frames = schedule.train_frames + schedule.test_frames
    per_sample = {TEACHER: 3 * teacher * frames}
    for name, row in ROWS.items():
        student = count_extraction(NetworkSettings(fusion=row.fusion, streams=row.streams, crop_size=CROP))
        parts = sum(costs[LOSSES[part]].total for part in row.parts)
        teacher_adds = count_teacher(row.parts, schedule) if row.parts else 0
        per_sample[name] = 3 * student * frames + teacher_adds + 3 * parts * schedule.test_frames
    result = {}
    for name, adds in per_sample.items():
        operations = 2 * adds * schedule.batch_size / 1e12
        hours = operations * schedule.steps / (schedule.gpus * schedule.tera_flops) / 3600
        result[name] = {"10^12 operations a step": round(operations, 1), "hours": round(hours, 1)}
    return result


def table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["| Row | Options | 10^12 operations per step | Hours, estimated |", "| --- | --- | ---: | ---: |"]
    for name, row in report["rows"].items():
        title = "Teacher" if name == TEACHER else ROWS[name].title
        if name == TEACHER:
            texts = "`train teacher`, as above"
        else:
            arguments = options(ROWS[name])
            texts = " ".join(
                filter(None, ("" if ROWS[name].parts else "no `--teacher`", f"`{arguments}`" if arguments else ""))
            )
        lines.append(f"| {title} | {texts or 'none'} | {row['10^12 operations a step']:.1f} | {row['hours']:.1f} |")
    return lines


def evaluation_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of the hours to track each benchmark."""
    rows = [f"| {name} | {each['frames']:,} | {each['hours']:.1f} |" for name, each in report["evaluation"].items()]
    return ["| Benchmark | Frames | Hours, estimated |", "| --- | ---: | ---: |", *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON report")
    out = parser.parse_args().out
    report = {"schedule": asdict(SCHEDULE) | {"steps": SCHEDULE.steps}, "rows": count()}
    report["evaluation"] = {
        name: {"frames": frames, "hours": round(frames / PAPER_FRAMES_PER_SECOND / 3600, 1)}
        for name, frames in FRAMES.items()
    }
    print("\n".join([*table(report), "", *evaluation_table(report)]))
    if out is not None:
        write_text(out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
