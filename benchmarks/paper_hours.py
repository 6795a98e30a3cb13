"""What it would take to train the paper's tables at the paper's size: arithmetic counted, hours estimated.

    python benchmarks/paper_hours.py --out benchmarks/results/paper_hours.json

Counted are the multiply-adds of trunks, fusions and feature losses on crops of 288 pixels, as PyTorch's flop counter
sees them on the meta device, so nothing is computed. A trained network costs three times its forward pass and sees all
frames of a sample, the losses see its test frames; the frozen teacher computes once what the losses ask for. DiMP's
heads, what works element by element, and the waiting for images are not counted. The hours follow from a throughput
that is assumed, not measured.
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
"""Where ``loss_costs`` has what a part costs."""


@dataclass(frozen=True)
class Schedule:
    """DiMP's, in batches that eight GPUs can share out equally.

    Attributes:
        samples: of the whole training: 50 epochs of 26,000.
        epochs_between: after how many epochs the learning rates fall.
        sequences: in a batch.
        train_frames: reference frames of a sample.
        test_frames: its test frames.
        gpus: that share a batch.
        tera_flops: that each sustains, in 10^12 operations a second: assumed, not measured.
    """

    samples: int = 50 * 26_000
    epochs_between: int = 15
    sequences: int = 32
    train_frames: int = 3
    test_frames: int = 3
    gpus: int = 8
    tera_flops: float = 10.0

    @property
    def steps(self) -> int:
        """Of a training."""
        return self.samples // self.sequences

    @property
    def decay_every(self) -> int:
        """Steps after which the learning rates fall."""
        return self.epochs_between * 26_000 // self.sequences


SCHEDULE = Schedule()

FRAMES = {"RGBT234": 116_656, "GTOT": 7_850, "LasHeR, test": 220_703}
"""Of the benchmarks, by their ground truths."""

PAPERS_SPEED = 30
"""Frames a second of the paper's student, on its GTX 1080 Ti."""


def options(row: Row) -> str:
    """Return what ``mmdistill train student`` is to be told for a row, but for data, trunk and teacher."""
    said = [f"--fusion {row.fusion}"] if row.fusion != "mpsd" else []
    said += [f"--streams {row.streams}"] if row.streams != 1 else []
    if row.parts and row.parts != ("scfd", "mpsd", "hfrd"):
        said.append(f"--distillation.parts {' '.join(row.parts)}")
    if row.interaction != Row("", "mpsd").interaction:
        said.append(f"--distillation.interaction {' '.join(row.interaction)}")
    return " ".join(said)


def extraction(settings: NetworkSettings) -> int:
    """Return the multiply-adds of trunks and fusions on one pair of crops."""
    with torch.device("meta"):
        network = TrackerNetwork(settings).eval()
    images = Pair(*(torch.empty(1, 3, CROP, CROP, device="meta") for _ in "ab"))
    return multiply_adds(network.extract, images)


def teaching(parts: Collection[str], schedule: Schedule) -> int:
    """Return the multiply-adds of what the teacher shows the parts of a sample."""
    with torch.device("meta"):
        teacher = Teacher(TrackerNetwork(teacher_settings()), parts)
        train, test = (
            (Pair(*(torch.empty(frames, 1, 3, CROP, CROP) for _ in "ab")), torch.empty(frames, 1, 4))
            for frames in (schedule.train_frames, schedule.test_frames)
        )
        batch = Batch(*train, *test, proposals=test[1][:, :, None], overlaps=test[1][:, :, :1])
    return multiply_adds(teacher.features, batch)


def count(schedule: Schedule = SCHEDULE) -> dict[str, dict[str, float]]:
    """Return for the teacher and each row the operations of a step, 10^12, and the hours at the assumed throughput."""
    costs, teacher = losses(), extraction(teacher_settings())
    frames = schedule.train_frames + schedule.test_frames
    a_sample = {TEACHER: 3 * teacher * frames}
    for name, row in ROWS.items():
        student = extraction(NetworkSettings(fusion=row.fusion, streams=row.streams, crop_size=CROP))
        parts = sum(costs[LOSSES[part]].total for part in row.parts)
        taught = teaching(row.parts, schedule) if row.parts else 0
        a_sample[name] = 3 * student * frames + taught + 3 * parts * schedule.test_frames
    found = {}
    for name, adds in a_sample.items():
        operations = 2 * adds * schedule.sequences / 1e12
        hours = operations * schedule.steps / (schedule.gpus * schedule.tera_flops) / 3600
        found[name] = {"10^12 operations a step": round(operations, 1), "hours": round(hours, 1)}
    return found


def table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["| Row | Options | 10^12 operations a step | Hours, estimated |", "| --- | --- | ---: | ---: |"]
    for name, found in report["rows"].items():
        title = "Teacher" if name == TEACHER else ROWS[name].title
        if name == TEACHER:
            said = "`train teacher`, as above"
        else:
            given = options(ROWS[name])
            said = " ".join(filter(None, ("" if ROWS[name].parts else "no `--teacher`", f"`{given}`" if given else "")))
        lines.append(f"| {title} | {said or 'none'} | {found['10^12 operations a step']:.1f} | {found['hours']:.1f} |")
    return lines


def evaluation_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of how long tracking a benchmark takes."""
    rows = [f"| {name} | {each['frames']:,} | {each['hours']:.1f} |" for name, each in report["evaluation"].items()]
    return ["| Benchmark | Frames | Hours, estimated |", "| --- | ---: | ---: |", *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    report = {"schedule": asdict(SCHEDULE) | {"steps": SCHEDULE.steps}, "rows": count()}
    report["evaluation"] = {
        name: {"frames": frames, "hours": round(frames / PAPERS_SPEED / 3600, 1)} for name, frames in FRAMES.items()
    }
    print("\n".join([*table(report), "", *evaluation_table(report)]))
    if out is not None:
        write_text(out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
