"""Estimates the frames per second of the tracker on a GPU from counted operations and bytes, before they are measured.

The network's time is the measured one of its CUDA graph (benchmarks/results/gpu_speed.json). Every other operation in
the tracker's graph takes as long as its bytes at the measured bandwidth, at least ``KERNEL_SECONDS``. The host's time
is the measured one (benchmarks/results/host_time.json); it overlaps with the uploads, not with the graph.

Training: the student's measured step without the time in which its profile shows the GPU idle; then also with half of
the time of element-wise operations and copies, as compiled code may have.

Counts at full size on a CPU. Takes about three minutes on one core.

Example:
    PYTHONPATH=. python benchmarks/expected_gpu.py --out benchmarks/results/expected_gpu.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from parts.gpu.experiment import Experiment
from parts.gpu.frame_counts import INTERVAL, frame_counts
from parts.gpu.phases import OTHER, PhaseCounts
from parts.report_fields import machine

from mmdistill.toolkit.io import write_text

RESULTS = Path(__file__).parent / "results"

KERNEL_SECONDS = 2.5e-6
"""Least time of a kernel in a CUDA graph; an assumption."""

UPLOAD_BYTES = 25e9
"""Bytes per second from pinned memory to the GPU; an assumption, half of what PCIe 5.0 x16 carries."""

WINDOW_BYTES = 2 * 300 * 300 * 3
"""Bytes of a video's windows: RGB and TIR, a search area of 300 pixels."""

FUSED = ("element-wise operations", "copies, casts and layouts")
"""Kinds of operations whose time compiled code halves; an assumption."""

VIDEOS = (1, 8, 32)
NETWORK = "features"
"""The part whose time is measured; the convolutions of the IoU features are measured with it."""


def graph_seconds(counts: PhaseCounts, parts: tuple[str, ...], bandwidth: float) -> float:
    """Return the seconds of the operations in some parts of a frame."""
    operations = sum(sum(counts.operations.get(part, {}).values()) for part in parts)
    moved = sum(counts.bytes[part] for part in parts)
    return max(operations * KERNEL_SECONDS, moved / bandwidth)


def expected(gpu: Mapping[str, Any], host: Mapping[str, float], videos: int) -> dict[str, float]:
    """Return the expected milliseconds of each part of a frame of some videos in bfloat16, and frames per second."""
    bandwidth = gpu["rows"]["ceilings"]["bytes"]
    plain, update = (
        frame_counts(Experiment(device="cpu", threads=1), "bfloat16", videos, updates=each) for each in (False, True)
    )
    parts = tuple(part for part in plain.operations if part not in (OTHER, NETWORK))
    seconds = {
        "network": gpu["rows"][f"experiments/CUDA graph, {videos}"]["milliseconds"] / 1000,
        "other operations": graph_seconds(plain, parts, bandwidth),
        "filter update": graph_seconds(update, ("filter update",), bandwidth) / INTERVAL,
        "upload": videos * WINDOW_BYTES / UPLOAD_BYTES,
        "host": host[str(videos)] / 1000,
    }
    total = sum(seconds.values()) - min(seconds["upload"], seconds["host"])
    row = {name: 1000 * value for name, value in seconds.items()}
    return row | {"frame": 1000 * total, "frames per second": videos / total}


def expected_training(gpu: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return milliseconds and share of the roofline of the student's step in bfloat16: measured, and expected."""
    row, profile = (gpu["rows"][f"{kind}student alone, bfloat16"] for kind in ("training/", "profile/training "))
    busy = 1 - profile["idle"]
    fused = sum(profile["shares"][kind] for kind in FUSED) / 2
    shares = {"measured": 1.0, "without idle time": busy, "and compiled": busy * (1 - fused)}
    return {
        name: {"milliseconds": share * row["milliseconds"], "of the roofline": row["of the roofline"] / share}
        for name, share in shares.items()
    }


def training_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of the student's training step."""
    lines = ["| Student's training step, bfloat16 | ms | Of the roofline |", "| --- | ---: | ---: |"]
    for name, row in report["training"].items():
        lines.append(f"| {name} | {row['milliseconds']:.0f} | {100 * row['of the roofline']:.0f} % |")
    return lines


def table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table."""
    names = list(next(iter(report["rows"].values())))
    lines = ["| Videos | " + " | ".join(f"{name}, ms" for name in names[:-1]) + " | Frames per second |"]
    lines.append("| --- |" + " ---: |" * len(names))
    for videos, row in report["rows"].items():
        cells = [f"{row[name]:.2f}" for name in names[:-1]]
        lines.append(f"| {videos} | " + " | ".join(cells) + f" | {row['frames per second']:,.0f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON report")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    gpu = json.loads((RESULTS / "gpu_speed.json").read_text())["cuda"]
    host_rows = json.loads((RESULTS / "host_time.json").read_text())["rows"]
    host = {videos: row["milliseconds"] for videos, row in host_rows.items()}
    rows = {str(videos): expected(gpu, host, videos) for videos in VIDEOS}
    assumptions = {"kernel seconds": KERNEL_SECONDS, "upload bytes per second": UPLOAD_BYTES}
    report = {
        "machine": machine(),
        "GPU of the network's time": gpu["machine"]["GPU"],
        **assumptions,
        "rows": rows,
        "training": expected_training(gpu),
    }
    print("\n".join([*table(report), "", *training_table(report)]))
    if arguments.out is not None:
        write_text(arguments.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
