"""Running our tracker over a benchmark: results on disk, and how fast it was."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from mmdistill.reference.device import choose_device
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network, network_digest
from mmdistill.reference.tracking.tracker import track_as_completed
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.runner import SequenceTracker, in_processes
from mmdistill.toolkit.evaluation.speed import read_speed
from mmdistill.toolkit.io import read_text, write_text
from mmdistill.toolkit.video import OnBroken

RESULTS = "results"
"""The folder below ``--out`` that gets the boxes and times of each sequence."""

_MARK = "weights.sha256"
"""The file that names the weights and holds their ``network_digest``, which a file saved again keeps."""

_SEQUENCES = "sequences.mark"


def choose_run(
    weights: Path, device: str, together: int, workers: int, on_broken: OnBroken
) -> tuple[SequenceTracker, str]:
    """Return what tracks, and how it does in words.

    Args:
        weights: of the network.
        device: cpu, cuda, or auto.
        together: how many videos are tracked at once.
        workers: how many processes track a video each.
        on_broken: what an image that can't be read is.

    Raises:
        DataError: what is asked for can't be done.
    """
    place = choose_device(device)
    network = load_network(weights)
    if workers == 1:
        threads = f", {torch.get_num_threads()} threads" if place.type == "cpu" else ""
        return _batched(network.to(place), together, on_broken), f"{place}{threads}, up to {together} videos at once"
    if place.type != "cpu":
        raise DataError(f"--workers: is for the CPU, not for {place}; use --together, or --device cpu")
    threads_each = max(1, (os.cpu_count() or 1) // workers)
    how = f"cpu, {threads_each} threads, timed per video while {workers} processes ran side by side"
    return in_processes(partial(_alone, weights, threads_each, on_broken), workers), how


def _batched(network: TrackerNetwork, batch_size: int, on_broken: OnBroken) -> SequenceTracker:
    return partial(track_as_completed, network, batch_size=batch_size, on_broken=on_broken)


def _alone(weights: Path, threads: int, on_broken: OnBroken) -> SequenceTracker:
    """Return what tracks one video at a time in a process of its own."""
    torch.set_num_threads(threads)
    return _batched(load_network(weights), 1, on_broken)


def report_speed(out: Path, names: Sequence[str]) -> None:
    """Write and print how fast sequences were tracked, where their times are there."""
    speed = read_speed(out / RESULTS, names)
    if speed is None:
        return
    write_text(out / "speed.json", speed.as_json())
    print(
        f"{speed.frames_per_second:.1f} frames per second ({speed.with_first_frames:.1f} with the first frames): "
        f"{speed.how}\n"
    )


def claim(out: Path, weights: Path, sequences: str) -> None:
    """Mark a folder as holding these weights' results, because a later run goes on from what it finds there.

    Args:
        out: the folder.
        weights: the file.
        sequences: which sequences they are; others may have the same names.

    Raises:
        DataError: it holds the results of other weights, or on other sequences.
    """
    digest = network_digest(load_network(weights))
    mark = out / RESULTS / _MARK
    if mark.exists() and read_text(mark).partition(" ")[0] != digest:
        raise DataError(f"{out}: holds the results of other weights; give another --out, or remove it")
    kind = out / RESULTS / _SEQUENCES
    if kind.exists() and (earlier := read_text(kind).strip()) != sequences:
        raise DataError(f"{out}: holds results on {earlier}, not on {sequences}; give another --out, or remove it")
    write_text(kind, f"{sequences}\n")
    write_text(mark, f"{digest}  {weights}\n")
