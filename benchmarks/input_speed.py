"""Measures the speed of the training input: samples per second, the steps' waiting time, and opening a large dataset.

Three parts; each replaces its own figures in --out:

- speed: writes composed JPEG video of two sizes and makes DiMP's samples from it: decoding, cropping, jitter and
  batches, first on one core, then with workers. Uses processor time, so that other processes matter less. The figure
  for 16 cores is extrapolated.
- steps: trains the student on the smaller video and measures the share of time spent waiting for batches.
- opening: opens 600,000 pairs of empty files in 979 folders, the size of LasHeR's training set.

Takes 5 minutes on two cores.

Examples:
    python benchmarks/input_speed.py --pairs PAIRS --out benchmarks/results/input_speed.json
    python benchmarks/input_speed.py --pairs PAIRS --out benchmarks/results/input_speed.json \
        --parts steps --device cuda --batch-size 26 --steps 60 --workers 0 4 8 15
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from parts.report_fields import machine
from parts.timing import Stopwatch

from mmdistill.reference.crops import cut
from mmdistill.reference.models.config import student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.synthetic import PairTextures, SyntheticSettings, synthetic_sequences
from mmdistill.reference.training import sampler as sampling
from mmdistill.reference.training.data_loader import BatchLoader, BatchShard, collate
from mmdistill.reference.training.data_sources import training_sequences
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.stages import SupervisedStage
from mmdistill.reference.training.train_step import TrainStep
from mmdistill.reference.training.trainer import DataWait
from mmdistill.toolkit.box_files import write_boxes
from mmdistill.toolkit.datasets.folder_sequence import FolderSequence, read_sequences, write_sequence
from mmdistill.toolkit.datasets.image_pairs import open_pairs
from mmdistill.toolkit.io import write_text

SIZES = ("640x480", "1280x720")
PARTS = ("speed", "steps", "opening")
CORES = 16
DEFAULT_BATCH_SIZE = TrainingSettings().batch_size
SEARCH_AREA = student_settings().search_area
BUDGET = 5.0
"""Limit for opening LasHeR's size, seconds."""


def write_videos(folder: Path, size: str, pairs: Path | None, videos: int, length: int) -> Path:
    """Write composed video as JPEG, with targets of 1/16 to 1/5 of the width; return its folder."""
    width, height = map(int, size.split("x"))
    settings = SyntheticSettings(size=(width, height), length=length, target_size=(width / 16, width / 5))
    textures = None if pairs is None else PairTextures(open_pairs(pairs))
    for video in synthetic_sequences(videos, seed=0, settings=settings, textures=textures):
        write_sequence(video, folder / size / video.name, suffix=".jpg")
    return folder / size


def sampler_of(videos: Path, crop_size: int) -> Sampler:
    """Return the sampler of DiMP's samples from a folder of videos."""
    return Sampler(read_sequences(videos), crop_size, SEARCH_AREA)


def part_times(sampler: Sampler, samples: int, repeats: int) -> dict[str, float]:
    """Return the processor milliseconds of each part of a sample, from the fastest repetition."""
    return min((_part_times(sampler, samples) for _ in range(repeats)), key=lambda times: times["total"])


def _part_times(sampler: Sampler, samples: int) -> dict[str, float]:
    watch = Stopwatch(time.process_time)
    frame = FolderSequence.frame
    with (
        patch.object(FolderSequence, "frame", watch.timed("decode", frame)),
        patch.object(sampling, "cut", watch.timed("crop", cut)),
    ):
        sample = watch.timed("sample", sampler.sample)
        drawn = [sample(number) for number in range(samples)]
    batch = watch.timed("batch", collate)(drawn)
    watch.timed("normalize", batch.to)(torch.device("cpu"))
    milliseconds = {name: 1000 * seconds / samples for name, seconds in watch.seconds.items()}
    total = milliseconds["sample"] + milliseconds["batch"]
    milliseconds["jitter"] = milliseconds.pop("sample") - milliseconds["decode"] - milliseconds["crop"]
    return {name: round(milliseconds[name], 2) for name in ("decode", "crop", "jitter", "batch", "normalize")} | {
        "total": round(total, 2)
    }


def loading(sampler: Sampler, sequences: int, batches: int, workers: int) -> dict[str, float]:
    """Return samples per second with workers, by processor time of all processes and by wall-clock time."""
    shard = BatchShard(sequences)
    before, start = _processor_seconds(), time.perf_counter()
    for _ in BatchLoader(sampler, shard, workers=workers).batches(0, batches):
        pass
    wall, used = time.perf_counter() - start, _processor_seconds() - before
    count = sequences * batches
    return {"workers": workers, "per core": round(count / used, 2), "wall clock": round(count / wall, 2)}


def _processor_seconds() -> float:
    """Return the processor time of this process and its finished children."""
    usage = [resource.getrusage(kind) for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def speed(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Return the speed for each video size."""
    by_size: dict[str, object] = {}
    for size in options.sizes:
        videos = write_videos(folder, size, options.pairs, options.videos, options.length)
        files = [path.stat().st_size for path in videos.glob("*/*/*.jpg")]
        sampler = sampler_of(videos, options.crop_size)
        by_size[size] = {
            "kilobytes an image": round(sum(files) / len(files) / 1000, 1),
            "milliseconds a sample": part_times(sampler, options.samples, options.repeats),
            "loading": [loading(sampler, options.batch, options.batches, workers) for workers in options.workers],
        }
        print(size, by_size[size])
    return by_size


def steps(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Return the share of time that training waits for data, for each number of workers."""
    sampler = sampler_of(
        write_videos(folder / "steps", options.sizes[0], options.pairs, options.videos, options.length),
        options.crop_size,
    )
    runs: list[dict[str, float]] = []
    for workers in options.workers:
        settings = TrainingSettings(steps=options.steps, batch_size=options.batch_size, workers=workers)
        torch.manual_seed(0)
        network = TrackerNetwork(student_settings(width=options.width, crop_size=options.crop_size))
        train_step = TrainStep(
            SupervisedStage(network), settings, torch.device(options.device), DistributedContext.current()
        )
        passes = BatchLoader(sampler, BatchShard.of(settings, DistributedContext.current()), workers=workers).batches(
            0, options.steps
        )
        data_wait, start = DataWait(), 0.0
        for number in range(options.steps):
            with data_wait.wait():
                loaded = next(passes)
            start = start or time.perf_counter()
            train_step.run(number, [loaded.batch])
        seconds = time.perf_counter() - start
        runs.append(
            {
                "workers": workers,
                "data_wait": round(data_wait.share, 4),
                "steps per second": round(options.steps / seconds, 3),
            }
        )
        print(runs[-1])
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    return {"device": name, "batch_size": options.batch_size, "size": options.sizes[0], "runs": runs}


def write_lasher(root: Path, folders: int, frames: int) -> str:
    """Write a folder with the layout of LasHeR's training set; return its ``--data`` value.

    The images are empty. Those of a sequence are hard links to one file, which saves disk space.

    Args:
        root: the folder.
        folders: number of sequences.
        frames: number of frame pairs in all sequences.
    """
    generator = np.random.default_rng(0)
    for number, length in enumerate(_split_evenly(frames, folders)):
        folder = root / "trainingset" / f"sequence{number:04d}"
        for side in ("visible", "infrared"):
            (folder / side).mkdir(parents=True)
            first, *rest = (f"{folder}/{side}/{side[0]}{frame:06d}.jpg" for frame in range(length))
            Path(first).touch()
            for name in rest:
                os.link(first, name)
        boxes = generator.integers(1, 400, (length, 4))
        write_boxes(folder / "visible.txt", boxes, decimals=0)
        write_boxes(folder / "infrared.txt", boxes, decimals=0)
        write_boxes(folder / "init.txt", boxes[:1], decimals=0)
    return f"lasher:{root}"


def _split_evenly(total: int, parts: int) -> list[int]:
    return [total // parts + (part < total % parts) for part in range(parts)]


def opening(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Return the time to open a dataset of LasHeR's size for training."""
    data = write_lasher(folder / "lasher", options.folders, options.frames)
    times = []
    for _ in range(options.repeats):
        start, wall = time.process_time(), time.perf_counter()
        sequences = training_sequences(data, count=1, seed=0)
        Sampler(sequences, options.crop_size, SEARCH_AREA)
        times.append((time.process_time() - start, time.perf_counter() - wall))
    result: dict[str, object] = {
        "folders": len(sequences),
        "frame pairs": sum(map(len, sequences)),
        "processor seconds": round(min(used for used, _ in times), 2),
        "seconds": round(min(wall for _, wall in times), 2),
        "budget": BUDGET,
    }
    print(result)
    return result


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of a sample's parts and of samples per second."""
    lines = [
        "| Images | Decode | Crop | Jitter | Batch | Samples per second and core | With workers, per core | "
        f"{CORES} cores (extrapolated) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for size, result in report["speed"]["sizes"].items():
        times = result["milliseconds a sample"]
        by_workers = next(each["per core"] for each in reversed(result["loading"]) if each["workers"])
        cells = [f"{times[part]:.1f} ms" for part in ("decode", "crop", "jitter", "batch")]
        cells += [f"{1000 / times['total']:.0f}", f"{by_workers:.0f}", f"{CORES * by_workers:.0f}"]
        lines.append(f"| {size.replace('x', ' x ')}, {result['kilobytes an image']:.0f} KB | {' | '.join(cells)} |")
    return lines


def steps_table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of the waiting time, by device and workers."""
    lines = [
        "| Device | Batch size | Workers | Steps per second | Time waiting for data |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for result in report["steps"].values():
        for run in result["runs"]:
            cells = [result["device"], result["batch_size"], run["workers"], f"{run['steps per second']:.2g}"]
            lines.append(f"| {' | '.join(map(str, cells))} | {100 * run['data_wait']:.1f} % |")
    if "cuda" not in report["steps"]:
        lines.append(f"| H200 | {DEFAULT_BATCH_SIZE} | | not measured | not measured |")
    return lines


def measure(options: argparse.Namespace, report: dict[str, Any]) -> dict[str, Any]:
    """Return the report with the selected parts measured again."""
    for part in options.parts:
        where = {"machine": machine(), "load": round(os.getloadavg()[0], 1)}
        with tempfile.TemporaryDirectory(prefix="input_speed_") as folder:
            if part == "speed":
                report["speed"] = {**where, "crop": options.crop_size, "sizes": speed(Path(folder), options)}
            elif part == "steps":
                report.setdefault("steps", {})[options.device] = {**where, **steps(Path(folder), options)}
            else:
                report["opening"] = {**where, **opening(Path(folder), options)}
    return {part: report[part] for part in PARTS if part in report}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pairs", type=Path, help="folder of aligned pairs to compose video from; default procedural video"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON report")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure; default all")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), help="video sizes; default 640x480 1280x720")
    parser.add_argument("--videos", type=int, default=8, help="number of videos; default 8")
    parser.add_argument("--length", type=int, default=20, help="frames per video; default 20")
    parser.add_argument("--samples", type=int, default=DEFAULT_BATCH_SIZE, help="timed samples; default 26")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions; default 3")
    parser.add_argument(
        "--batch", type=int, default=DEFAULT_BATCH_SIZE, help="samples per batch of the workers; default 26"
    )
    parser.add_argument("--batches", type=int, default=6, help="batches of the workers; default 6")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="numbers of workers; default 0 1 2")
    parser.add_argument(
        "--crop-size", type=int, default=student_settings().crop_size, help="crop size, pixels; default 288"
    )
    parser.add_argument(
        "--device", default="cpu", choices=["cpu", "cuda"], help="device of the training steps; default cpu"
    )
    parser.add_argument("--steps", type=int, default=5, help="training steps; default 5")
    parser.add_argument("--batch-size", type=int, default=2, help="samples per training step; default 2")
    parser.add_argument("--width", type=int, default=64, help="channels of the student's first convolution")
    parser.add_argument("--folders", type=int, default=979, help="folders of the large dataset; default 979")
    parser.add_argument("--frames", type=int, default=600_000, help="frame pairs of the large dataset; default 600,000")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    report = json.loads(options.out.read_text()) if options.out.exists() else {}
    write_text(options.out, json.dumps(measure(options, report), indent=2) + "\n")


if __name__ == "__main__":
    main()
