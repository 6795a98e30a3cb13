"""Runs the reference tracker over a benchmark; marks the folder of its results and reports the speed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from mmdistill.cli.arguments import ArgumentError
from mmdistill.reference.device import choose_device
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network, network_digest
from mmdistill.reference.tracking.batch_runner import each_tracked
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.runner import Run, in_processes
from mmdistill.toolkit.evaluation.speed import read_speed
from mmdistill.toolkit.io import read_text, write_text
from mmdistill.toolkit.video import OnBroken

RESULTS = "results"
"""The folder in ``--out`` with the boxes and times of each sequence."""

WEIGHTS_MARK = "weights.sha256"
"""The file with the path of the weights and their ``network_digest``."""

SEQUENCES_MARK = "sequences.mark"
"""The file that names the sequences."""


def choose_run(weights: Path, device: str, batch_size: int, workers: int, on_broken: OnBroken) -> tuple[Run, str]:
    """Return the function that tracks sequences, and a description of how it runs.

    Args:
        weights: The network file.
        device: ``cpu``, ``cuda`` or ``auto``.
        batch_size: Videos per batch.
        workers: Processes, each with a video of its own.
        on_broken: What to do with an unreadable image.

    Raises:
        ArgumentError: Several processes are asked for on a GPU.
        DataError: The device is not available, or the weights can't be read.
    """
    chosen = choose_device(device)
    network = load_network(weights)
    if workers == 1:
        threads = f", {torch.get_num_threads()} threads" if chosen.type == "cpu" else ""
        return _batch_run(network.to(chosen), batch_size, on_broken), (
            f"{chosen}{threads}, up to {batch_size} videos at once"
        )
    if chosen.type != "cpu":
        raise ArgumentError(f"--workers: is for the CPU, not for {chosen}; use --batch-size, or --device cpu")
    threads_each = max(1, (os.cpu_count() or 1) // workers)
    setup = f"cpu, {threads_each} threads, timed per video while {workers} processes ran side by side"
    return in_processes(partial(_single_run, weights, threads_each, on_broken), workers), setup


def _batch_run(network: TrackerNetwork, batch_size: int, on_broken: OnBroken) -> Run:
    return lambda sequences, after_frame: each_tracked(
        network, sequences, together=batch_size, on_broken=on_broken, after_frame=after_frame
    )


def _single_run(weights: Path, threads: int, on_broken: OnBroken) -> Run:
    """Return the function that a worker process tracks one video at a time with."""
    torch.set_num_threads(threads)
    return _batch_run(load_network(weights), 1, on_broken)


def report_speed(out: Path, names: Sequence[str]) -> None:
    """Write and print the speed of tracking, if the times of the sequences were saved."""
    speed = read_speed(out / RESULTS, names)
    if speed is None:
        return
    write_text(out / "speed.json", speed.as_json())
    print(
        f"{speed.frames_per_second:.1f} frames per second ({speed.with_first_frames:.1f} with the first frames): "
        f"{speed.how}\n"
    )


def claim(out: Path, weights: Path, sequences: str) -> None:
    """Mark a folder as holding results of these weights, because a later run reuses the results in it.

    Args:
        out: The folder.
        weights: The network file. The mark holds its digest, which does not change when the file is saved again.
        sequences: A description of the sequences. Other sequences may have the same names.

    Raises:
        DataError: The folder holds results of other weights, or on other sequences.
    """
    digest = network_digest(load_network(weights))
    mark = out / RESULTS / WEIGHTS_MARK
    if mark.exists() and read_text(mark).partition(" ")[0] != digest:
        raise DataError(f"{out}: holds the results of other weights; give another --out, or remove it")
    sequences_mark = out / RESULTS / SEQUENCES_MARK
    if sequences_mark.exists() and (earlier := read_text(sequences_mark).strip()) != sequences:
        raise DataError(f"{out}: holds results on {earlier}, not on {sequences}; give another --out, or remove it")
    write_text(sequences_mark, f"{sequences}\n")
    write_text(mark, f"{digest}  {weights}\n")
