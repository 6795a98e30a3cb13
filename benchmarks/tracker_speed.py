"""Measures the time of each part of a tracked frame, relative to the trunk's time on the same crop.

DiMP-18 on one modality and the RGB-T student, crops of 288 pixels, one thread, folded batch norm. On every frame of a
synthetic video it times the trunk alone, the tracked frame with its parts, and a filter update on a full sample memory;
on some frames also the first frame of a video. Reports medians over the frames. Without --weights the network is random
and the tracker rejects no frame. Takes about two minutes on one core.

Example:
    python benchmarks/tracker_speed.py --out benchmarks/results/tracker_speed.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from parts.report_fields import machine
from parts.timing import Stopwatch, no_rejection
from torch import Tensor

from mmdistill.reference.models import windowed_iou
from mmdistill.reference.models.config import single_settings, student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.tracking import runners, step
from mmdistill.reference.tracking.batch_tracker import BatchTracker
from mmdistill.reference.tracking.settings import TrackingSettings
from mmdistill.toolkit.progress import progress_bar

UPDATE = "filter update, 2 iterations on 50 samples"
REFINEMENT = "box refinement, 5 steps of 10 boxes"
FIRST = "first frame"

BUDGETS = {
    UPDATE: 0.6,
    REFINEMENT: 0.3,
    "IoU features": 0.25,
    "not a network": 0.1,
    FIRST: 25.0,
}
"""Limits, in multiples of the trunk's time."""


@dataclass(frozen=True)
class Experiment:
    """Settings.

    Attributes:
        frames: number of timed frames.
        warmup: frames before the timed ones.
        starts: number of timed first frames.
        size: width and height of the video, pixels.
        threads: CPU threads.
    """

    frames: int = 60
    warmup: int = 5
    starts: int = 7
    size: tuple[int, int] = (640, 480)
    threads: int = 1


def measure(network: TrackerNetwork, tracking: TrackingSettings, settings: Experiment) -> dict[str, object]:
    """Return each part's median milliseconds, and its ratio to the trunk's time."""
    tracker = BatchTracker(network, tracking)
    video = synthetic_sequences(1, seed=0, settings=SyntheticSettings(settings.size, length=settings.frames + 10))[0]
    watch = Stopwatch()
    model, crop = tracker._runner.step().model, network.settings.crop_size
    watch.patch(tracker.network, "extract", "trunk and fusion")
    watch.patch(model, "features", "classification features")
    watch.patch(model, "score", "score map")
    watch.patch(step, "refine", "refine")
    watch.patch(windowed_iou, "window_features", "IoU features")
    watch.patch(tracker.network.iou_net, "features", "IoU features")
    watch.patch(runners, "store", "learn")
    watch.patch(tracker._runner, "learn", "learn")

    trunk = next(iter(tracker.network.trunks.values()))
    num_images = 2 if network.settings.modality == "rgbt" else 1
    images = torch.randn(num_images, 3, crop, crop).contiguous(memory_format=torch.channels_last)
    first, samples = _full_memory(tracker, video)
    most = tracking.learning.iterations
    iterations = torch.full((1,), most)
    rows: list[dict[str, float]] = []
    starts: list[dict[str, float]] = []
    total = settings.warmup + settings.frames
    with progress_bar(total, "tracking", "frame") as bar, torch.no_grad():
        for number in range(total):
            frame = video.frame(1 + number % (len(video) - 1))
            watch.seconds.clear()
            with watch.part("trunk"):
                trunk(images)
            with watch.part("frame"):
                tracker.step([0], [frame])
            with watch.part(UPDATE):
                model.improve(first, *samples, iterations, most)
            rows.append(dict(watch.seconds))
            if number % max(1, total // settings.starts) == 0:
                with watch.part(FIRST):
                    tracker.start(0, video.frame(0), video.boxes[0])
                starts.append({"trunk": rows[-1]["trunk"], FIRST: watch.seconds[FIRST]})
            bar.update()
    rows = [_split(row) for row in rows[settings.warmup :]]
    measured = {part: [(row[part], row["trunk"]) for row in rows] for part in rows[0]}
    measured[FIRST] = [(start[FIRST], start["trunk"]) for start in starts]
    return {
        "milliseconds": {
            part: round(1000 * statistics.median(seconds for seconds, _ in times), 2)
            for part, times in measured.items()
        },
        "trunks": {
            part: round(statistics.median(seconds / trunk for seconds, trunk in times), 3)
            for part, times in measured.items()
        },
        "frames": len(rows),
    }


def _full_memory(tracker: BatchTracker, video: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor, Tensor]]:
    """Initialize on the video, fill the sample memory; return the target model's tensors and all samples."""
    tracker.start(0, video.frame(0), video.boxes[0])
    target, memory = tracker._runner._started()
    size, used = len(target.weights), int(target.num_samples)
    for tensor in memory:
        tensor[used:] = tensor[:1]
    target.weights.fill_(1 / size)
    target.num_samples.fill_(size)
    target.newest.fill_(size - 1)
    samples, boxes = (tensor[:size].clone() for tensor in memory)
    return tuple(tensor.clone() for tensor in target.model), (samples, boxes, target.weights.clone())


def _split(seconds: dict[str, float]) -> dict[str, float]:
    """Return the exclusive time of each part, and the remaining time."""
    network = ("trunk and fusion", "classification features", "score map", "refine")
    parts = {name: seconds[name] for name in ("trunk", "frame", *network[:-1], "IoU features")}
    parts[REFINEMENT] = seconds["refine"] - seconds["IoU features"]
    parts["not a network"] = seconds["frame"] - sum(seconds[name] for name in network) - seconds.get("learn", 0.0)
    parts["memory and filter update when due"] = seconds.get("learn", 0.0)
    return parts | {UPDATE: seconds[UPDATE]}


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of each part's milliseconds and ratio to the trunk, by network."""
    networks, budgets = report["networks"], report["budgets"]
    lines = [
        "| Part | " + " | ".join(f"{name}: ms | ratio to the trunk" for name in networks) + " | Limit |",
        "| --- |" + " ---: | ---: |" * len(networks) + " ---: |",
    ]
    for part in next(iter(networks.values()))["trunks"]:
        cells = [
            cell
            for measured in networks.values()
            for cell in (f"{measured['milliseconds'][part]:.1f}", f"{measured['trunks'][part]:.2f}")
        ]
        lines.append(f"| {part} | {' | '.join(cells)} | {budgets.get(part, '')} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON report")
    parser.add_argument("--weights", type=Path, help="weights of a DiMP-18 of one modality; default random weights")
    arguments = parser.parse_args()
    settings = Experiment()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    networks = {
        "DiMP-18, one modality": load_network(arguments.weights)
        if arguments.weights
        else TrackerNetwork(single_settings("tir")),
        "student, RGB and TIR": TrackerNetwork(student_settings()),
    }
    report = {
        "machine": machine(),
        "experiment": asdict(settings),
        "budgets": BUDGETS,
        "networks": {name: measure(network, no_rejection(), settings) for name, network in networks.items()},
    }
    print("\n".join(table(report)))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
