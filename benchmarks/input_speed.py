"""How fast samples are made for training, how long steps wait for them, and how long a large data set takes to open.

Three parts, each of which replaces its own figures in the file:

- speed: JPEG video of two sizes is composed and written, and the samples of DiMP's settings are made of it: decoded,
  cut out, jittered and put into batches, one after the other on one core, then by workers. Times are the processor's,
  so that they hold beside other processes too; what 16 cores feed is extrapolated from them.
- steps: the student is trained on the smaller video for some steps; which share of the time waits for batches.
- opening: 600,000 pairs of empty files in 979 folders, as LasHeR lies, are opened for training.

    python benchmarks/input_speed.py --pairs PAIRS --json benchmarks/results/input_speed.json
    python benchmarks/input_speed.py --pairs PAIRS --json benchmarks/results/input_speed.json \
        --parts steps --device cuda --batch-size 26 --steps 60 --workers 0 4 8 15
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import torch
from parts.lasher_sized import write_lasher
from parts.machine import machine

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
from mmdistill.toolkit.datasets.folder_sequence import FolderSequence, read_sequences, write_sequence
from mmdistill.toolkit.datasets.image_pairs import open_pairs
from mmdistill.toolkit.io import write_text

SIZES = ("640x480", "1280x720")
PARTS = ("speed", "steps", "opening")
CORES = 16
BATCH = TrainingSettings().batch_size
SEARCH_AREA = student_settings().search_area
BUDGET = 5.0
"""Seconds that opening LasHeR's size may take."""


def write_videos(folder: Path, size: str, pairs: Path | None, videos: int, length: int) -> Path:
    """Write composed video as JPEG, targets a sixteenth to a fifth of the width; return its folder."""
    width, height = map(int, size.split("x"))
    settings = SyntheticSettings(size=(width, height), length=length, target_size=(width / 16, width / 5))
    textures = None if pairs is None else PairTextures(open_pairs(pairs))
    for video in synthetic_sequences(videos, seed=0, settings=settings, textures=textures):
        write_sequence(video, folder / size / video.name, suffix=".jpg")
    return folder / size


def sampler_of(videos: Path, crop_size: int) -> Sampler:
    """Return what draws DiMP's samples from a folder of videos."""
    return Sampler(read_sequences(videos), crop_size, SEARCH_AREA)


class Stopwatch:
    """Adds up the processor's time in calls, by name."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does as ``call`` and is timed."""

        def measured(*arguments: Any) -> Any:
            start = time.process_time()
            result = call(*arguments)
            self.seconds[name] += time.process_time() - start  # type: ignore[assignment]
            return result

        return measured


def part_times(sampler: Sampler, samples: int, repeats: int) -> dict[str, float]:
    """Return the milliseconds of one core that the parts of a sample take, in the fastest of some repeats."""
    return min((_part_times(sampler, samples) for _ in range(repeats)), key=lambda times: times["together"])


def _part_times(sampler: Sampler, samples: int) -> dict[str, float]:
    watch = Stopwatch()
    frame = FolderSequence.frame
    with (
        patch.object(FolderSequence, "frame", watch.timed("decode", frame)),
        patch.object(sampling, "cut", watch.timed("crop", cut)),
    ):
        sample = watch.timed("sample", sampler.sample)
        drawn = [sample(number) for number in range(samples)]
    batch = watch.timed("batch", collate)(drawn)
    watch.timed("normalize", batch.to)(torch.device("cpu"))
    took = {name: 1000 * seconds / samples for name, seconds in watch.seconds.items()}
    together = took["sample"] + took["batch"]
    took["jitter"] = took.pop("sample") - took["decode"] - took["crop"]
    return {name: round(took[name], 2) for name in ("decode", "crop", "jitter", "batch", "normalize")} | {
        "together": round(together, 2)
    }


def loading(sampler: Sampler, sequences: int, batches: int, workers: int) -> dict[str, float]:
    """Return what workers do: samples a second of a core, of all processes' time, and by the clock on the wall."""
    shard = BatchShard(sequences)
    before, start = _processor_seconds(), time.perf_counter()
    for _ in BatchLoader(sampler, shard, workers=workers).batches(0, batches):
        pass
    wall, used = time.perf_counter() - start, _processor_seconds() - before
    count = sequences * batches
    return {"workers": workers, "a core": round(count / used, 2), "by the clock": round(count / wall, 2)}


def _processor_seconds() -> float:
    """This process's and its ended children's."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def speed(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Return what each size of video costs."""
    found: dict[str, object] = {}
    for size in options.sizes:
        videos = write_videos(folder, size, options.pairs, options.videos, options.length)
        files = [path.stat().st_size for path in videos.glob("*/*/*.jpg")]
        sampler = sampler_of(videos, options.crop_size)
        found[size] = {
            "kilobytes an image": round(sum(files) / len(files) / 1000, 1),
            "milliseconds a sample": part_times(sampler, options.samples, options.repeats),
            "loading": [loading(sampler, options.batch, options.batches, workers) for workers in options.workers],
        }
        print(size, found[size])
    return found


def steps(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Return the share of time that training waits, for each number of workers."""
    sampler = sampler_of(
        write_videos(folder / "steps", options.sizes[0], options.pairs, options.videos, options.length),
        options.crop_size,
    )
    found: list[dict[str, float]] = []
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
        found.append(
            {
                "workers": workers,
                "waited": round(data_wait.share, 4),
                "steps a second": round(options.steps / seconds, 3),
            }
        )
        print(found[-1])
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    return {"device": name, "sequences": options.batch_size, "size": options.sizes[0], "runs": found}


def opening(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Return how long a data set of LasHeR's size takes from its name to its first sample's number."""
    data = write_lasher(folder / "lasher", options.folders, options.frames)
    times = []
    for _ in range(options.repeats):
        start, wall = time.process_time(), time.perf_counter()
        sequences = training_sequences(data, count=1, seed=0)
        Sampler(sequences, options.crop_size, SEARCH_AREA)
        times.append((time.process_time() - start, time.perf_counter() - wall))
    found: dict[str, object] = {
        "folders": len(sequences),
        "frame pairs": sum(map(len, sequences)),
        "processor seconds": round(min(used for used, _ in times), 2),
        "seconds": round(min(wall for _, wall in times), 2),
        "budget": BUDGET,
    }
    print(found)
    return found


def table(report: dict[str, Any]) -> list[str]:
    """Return the times of a sample's parts and what follows for many cores as lines of Markdown."""
    lines = [
        "| Images | Decode | Crop | Jitter | Batch | Samples a second of a core | Of a core, by workers | "
        f"{CORES} cores (extrapolated) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for size, found in report["speed"]["sizes"].items():
        times = found["milliseconds a sample"]
        by_workers = next(each["a core"] for each in reversed(found["loading"]) if each["workers"])
        cells = [f"{times[part]:.1f} ms" for part in ("decode", "crop", "jitter", "batch")]
        cells += [f"{1000 / times['together']:.0f}", f"{by_workers:.0f}", f"{CORES * by_workers:.0f}"]
        lines.append(f"| {size.replace('x', ' x ')}, {found['kilobytes an image']:.0f} KB | {' | '.join(cells)} |")
    return lines


def steps_table(report: dict[str, Any]) -> list[str]:
    """Return how long steps wait, by device and workers, as lines of Markdown."""
    lines = ["| Student on | Sequences | Workers | Steps a second | Waited |", "| --- | ---: | ---: | ---: | ---: |"]
    for found in report["steps"].values():
        for run in found["runs"]:
            cells = [found["device"], found["sequences"], run["workers"], f"{run['steps a second']:.2g}"]
            lines.append(f"| {' | '.join(map(str, cells))} | {100 * run['waited']:.1f} % |")
    if "cuda" not in report["steps"]:
        lines.append(f"| H200 | {BATCH} | | not measured | not measured |")
    return lines


def measure(options: argparse.Namespace, report: dict[str, Any]) -> dict[str, Any]:
    """Return a report with the parts that were asked for measured anew."""
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
    parser.add_argument("--pairs", type=Path, help="aligned pairs to compose video from; procedural without them")
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--samples", type=int, default=BATCH)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=BATCH, help="samples of a batch that workers make")
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--crop-size", type=int, default=student_settings().crop_size)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=2, help="sequences of a training step")
    parser.add_argument("--width", type=int, default=64, help="channels of the student's first convolution")
    parser.add_argument("--folders", type=int, default=979)
    parser.add_argument("--frames", type=int, default=600_000)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    report = json.loads(options.json.read_text()) if options.json.exists() else {}
    write_text(options.json, json.dumps(measure(options, report), indent=2) + "\n")


if __name__ == "__main__":
    main()
