"""Trains the network inside the package: CMD's compact student, on free pictures with simulated thermal images.

Trains a teacher with ImageNet trunks, then for each seed a student alone and CMD's, from random weights. Every network
tracks held-out composed video, and real sequences of one modality with --root. Neither is used in training or for a
choice. --network writes CMD's student of the first seed in bfloat16.

Every run resumes from its checkpoint: repeat the command until nothing is unfinished. The pictures are those of
bundled_pictures.py.

Example:
    python benchmarks/train_bundled.py --pictures pictures --trunk resnet18.npz --root DATA --jobs 2 \
        --work-dir runs/bundled --out benchmarks/results/bundled.json \
        --network mmdistill/reference/models/networks/student-rgbt.safetensors
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ablation import collect_results, run_stage
from parts.ablation.choice import given
from parts.ablation.execution import RunContext, Stage, add_execution_options
from parts.ablation.report import METRICS, compact_json
from parts.ablation.rows import CMD, ROWS, Weights
from parts.ablation.runs import NETWORK, Experiment, mark_folder
from parts.ablation.sizes import BUNDLED
from parts.ablation.video import describe
from parts.crossed_statistics import compare, format_cell
from parts.report_fields import machine
from parts.seed_statistics import format_mean, mean_and_deviation
from real_sequences import MODALITIES, measure

from mmdistill.reference.device import choose_device
from mmdistill.reference.models.weights import load_network, save_network
from mmdistill.reference.training.settings import DistillationSettings
from mmdistill.toolkit.datasets.folder_sequence import read_sequences
from mmdistill.toolkit.io import write_text

ALONE = ROWS[CMD].base
"""The student alone, with the same network."""

TRACKERS: Mapping[str, str] = {ALONE: "Student alone", CMD: "CMD"}


def track_real(root: Path, work_dir: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the figures of each row and seed on real sequences, by sequence.

    Args:
        root: folder with the sequences in rgb/ and tir/.
        work_dir: folder of the trained networks.
        seeds: seeds of the students; each network tracks once.
    """
    sequences = {name: read_sequences(root / name, modality=name) for name in MODALITIES if (root / name).is_dir()}
    measured: dict[str, Any] = {}
    for row in TRACKERS:
        for seed in seeds:
            file = work_dir / f"seed_{seed}" / row / NETWORK
            if file.exists():
                network = load_network(file)
                found: dict[str, Any] = {}
                for each in sequences.values():
                    found |= measure(network, each, 1)["sequences"]
                measured.setdefault(row, {})[str(seed)] = {
                    name: {figure: mean for figure, (mean, _) in figures.items()} for name, figures in found.items()
                }
    return measured


def table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table: each test's PR and SR, mean and deviation over seeds."""
    columns = " | ".join(f"{title}, {figure}" for title in TRACKERS.values() for figure in METRICS)
    lines = [f"| Test video | {columns} |", "| --- |" + " ---: |" * 2 * len(TRACKERS)]

    def line(title: str, values: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
        cells = [
            format_mean(mean_and_deviation([each[figure] for each in values[row]]))
            for row in TRACKERS
            for figure in METRICS
        ]
        return f"| {' | '.join([title, *cells])} |"

    by_seed = report["by seed"]
    lines.append(line("composed, RGB-T", {row: [rows[row] for rows in by_seed.values()] for row in TRACKERS}))
    real = report["real sequences"]
    for name in next(iter(next(iter(real.values())).values())) if real else ():
        lines.append(line(name, {row: [each[name] for each in real[row].values()] for row in TRACKERS}))
    return lines


def gain(report: Mapping[str, Any]) -> str:
    """Return CMD's gain on the composed test video with its 95 % interval, as text."""
    intervals = [compare(report["by seed"], CMD, ALONE, figure) for figure in METRICS]
    return ", ".join(f"{figure} {format_cell(each)}" for figure, each in zip(METRICS, intervals, strict=True) if each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", required=True, help="folder of bundled_pictures.py")
    parser.add_argument("--trunk", required=True, help="ImageNet weights of the teacher's trunks")
    parser.add_argument("--root", type=Path, help="folder with real sequences in rgb/ and tir/")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/bundled"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the students; default 0 1 2")
    parser.add_argument("--out", type=Path, required=True, help="JSON report")
    parser.add_argument("--network", type=Path, help="file for CMD's student of the first seed, in bfloat16")
    add_execution_options(parser)
    arguments = parser.parse_args()
    end = time.time() + 60 * arguments.time_limit
    experiment = Experiment(BUNDLED, trunk=arguments.trunk, pictures=arguments.pictures)
    device = choose_device(arguments.device).type
    mark_folder(arguments.work_dir, experiment.describe())
    data = describe(experiment.videos)
    context = RunContext(
        experiment, arguments.work_dir, device, arguments.threads, end, arguments.jobs == 1, reuse=device == "cpu"
    )
    stage = Stage(context, arguments.jobs)
    defaults = DistillationSettings()
    fixed = {CMD: given(Weights(defaults.alpha, defaults.beta))}
    try:
        choices = run_stage(stage, [(row, seed) for seed in arguments.seeds for row in TRACKERS], fixed, False)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
    torch.set_num_threads(arguments.threads)
    done = not stage.unfinished
    report = {
        "machine": machine() | {"device": device, "jobs": arguments.jobs, "threads": arguments.threads},
        "experiment": experiment.describe(),
        "data": data,
        "choice": choices,
        **collect_results(experiment, arguments.work_dir, arguments.seeds, choices),
        "real sequences": track_real(arguments.root, arguments.work_dir, arguments.seeds) if arguments.root else {},
        "unfinished": stage.unfinished,
    }
    write_text(arguments.out, compact_json(report) + "\n")
    if done:
        print("\n".join([*table(report), "", f"CMD's gain, composed: {gain(report)}"]))
    if done and arguments.network is not None:
        network = load_network(arguments.work_dir / f"seed_{arguments.seeds[0]}" / CMD / NETWORK)
        save_network(arguments.network, network.bfloat16())
    print("\n  ".join([f"unfinished: {len(stage.unfinished)}", *stage.unfinished]))
    if stage.failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
