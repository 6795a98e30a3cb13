"""Measures whether a tracker's memory or time per frame grows over a long video.

A student with random weights tracks a synthetic video of 10,000 frames. It rejects no frame, so that its sample memory
fills and its filter is updated regularly. Records the resident memory and the median time per frame every 1,000 frames.
Takes about ten minutes on one core.

Example:
    python benchmarks/tracker_memory.py --out benchmarks/results/tracker_memory.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from parts.report_fields import machine

from mmdistill.reference.models.config import student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.tracking.settings import PUBLISHED
from mmdistill.reference.tracking.tracker import Tracker
from mmdistill.toolkit.progress import progress_bar


@dataclass(frozen=True)
class Experiment:
    """Settings.

    Attributes:
        frames: frames of the video.
        every: frames between records.
        width: width of the student's trunk.
        crop: crop size, pixels.
        threads: CPU threads.
    """

    frames: int = 10_000
    every: int = 1_000
    width: int = 16
    crop: int = 144
    threads: int = 1


def resident_mebibytes() -> float:
    """Return the resident memory of the process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(settings: Experiment) -> list[dict[str, float]]:
    """Return a row for each record: frame, resident memory, and median time per frame since the last record."""
    torch.manual_seed(0)
    torch.set_num_threads(settings.threads)
    network = TrackerNetwork(student_settings(settings.width, settings.crop))
    tracking = replace(PUBLISHED, localization=replace(PUBLISHED.localization, not_found=-1.0, rival=2.0))
    tracker = Tracker(network, tracking)
    (video,) = synthetic_sequences(1, seed=0, settings=SyntheticSettings(length=settings.frames))
    tracker.init(video.frame(0), video.boxes[0])
    rows, seconds = [], []
    with progress_bar(settings.frames, "tracking", "frame", initial=1) as bar:
        for index in range(1, settings.frames):
            frame = video.frame(index)
            start = time.perf_counter()
            tracker.update(frame)
            seconds.append(time.perf_counter() - start)
            bar.update()
            if (index + 1) % settings.every == 0:
                rows.append(
                    {
                        "frame": index + 1,
                        "resident megabytes": round(resident_mebibytes(), 1),
                        "milliseconds": round(1000 * statistics.median(seconds), 2),
                    }
                )
                seconds.clear()
    return rows


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table."""
    rows = [
        f"| {row['frame']:,} | {row['resident megabytes']:.0f} | {row['milliseconds']:.1f} |" for row in report["rows"]
    ]
    return ["| Frame | Resident memory, MiB | ms per frame |", "| ---: | ---: | ---: |", *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON report")
    parser.add_argument("--frames", type=int, default=Experiment.frames, help="frames of the video; default 10,000")
    arguments = parser.parse_args()
    settings = Experiment(frames=arguments.frames, every=max(1, arguments.frames // 10))
    result = {"machine": machine(), "experiment": asdict(settings), "rows": measure(settings)}
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print("\n".join(table(result)))


if __name__ == "__main__":
    main()
