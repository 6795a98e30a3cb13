"""Measures PR and SR on real sequences of one modality, with DiMP and ATOM on the same trunk and IoU-Net.

DATA/rgb and DATA/tir hold VOT- or OTB-style sequences. The weights come from `mmdistill train rgb` and `mmdistill train
tir`. ATOM is the same network without the trained classifier. Every sequence is tracked with several seeds, which set
the first frame's augmentation and the start boxes of refinement. Takes 5 minutes on one core, without the training.

Example:
    python benchmarks/real_sequences.py --root DATA --rgb rgb.safetensors --tir tir.safetensors --out FILE.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from parts.report_fields import machine
from parts.seed_statistics import mean_and_deviation

from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.tracking.tracker import track_batch
from mmdistill.toolkit.datasets.folder_sequence import read_sequences
from mmdistill.toolkit.evaluation.metrics import score_sequences
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.sequence import TrackingSequence

MODALITIES: tuple[Literal["rgb", "tir"], ...] = ("rgb", "tir")


def to_atom(network: TrackerNetwork) -> TrackerNetwork:
    """Return the network with ATOM's classifier in place of the trained one."""
    atom = TrackerNetwork(replace(network.settings, classifier="atom"))
    atom.load_state_dict(
        {name: value for name, value in network.state_dict().items() if not name.startswith("classifier.")}
    )
    return atom.eval()


def measure(network: TrackerNetwork, sequences: Sequence[TrackingSequence], seeds: int) -> dict[str, Any]:
    """Return mean and deviation of each sequence's PR, NPR and SR over seeds, and frames per second."""
    runs, rates = [], []
    with progress_bar(seeds * sum(map(len, sequences)), "tracking", "frame") as bar:
        for seed in range(seeds):
            tracked = track_batch(network, sequences, seed=seed, after_frame=bar.update)
            boxes = {sequence.name: track.boxes for sequence, track in zip(sequences, tracked, strict=True)}
            runs.append(score_sequences(boxes, sequences, PROTOCOLS["vot"]))
            rates.append(sum(map(len, sequences)) / sum(float(track.seconds.sum()) for track in tracked))
    by_sequence = {}
    for name in runs[0].sequences:
        figures = [run.sequences[name].rates() for run in runs]
        by_sequence[name] = {figure: mean_and_deviation([each[figure] for each in figures]) for figure in figures[0]}
    return {"sequences": by_sequence, "frames per second": round(statistics.median(rates), 1)}


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table."""
    trackers = report["trackers"]
    lines = ["| Sequence | " + " | ".join(f"{name} PR | SR" for name in trackers) + " |"]
    lines.append("| --- |" + " ---: | ---: |" * len(trackers))
    for sequence in next(iter(trackers.values()))["sequences"]:
        cells = []
        for measured in trackers.values():
            figures = measured["sequences"][sequence]
            cells += [f"{figures[name][0]:.1f} ± {figures[name][1]:.1f}" for name in ("PR", "SR")]
        lines.append(f"| {sequence} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder with the sequences in rgb/ and tir/")
    parser.add_argument("--rgb", type=Path, required=True, help="weights of the RGB tracker")
    parser.add_argument("--tir", type=Path, required=True, help="weights of the TIR tracker")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds; default 3")
    parser.add_argument("--out", type=Path, help="JSON report")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trackers: dict[str, dict[str, Any]] = {"DiMP": {"sequences": {}}, "ATOM": {"sequences": {}}}
    for modality in MODALITIES:
        network = load_network(getattr(arguments, modality))
        sequences = read_sequences(arguments.root / modality, modality=modality)
        for name, tracked in (("DiMP", network), ("ATOM", to_atom(network))):
            measured = measure(tracked, sequences, arguments.seeds)
            trackers[name]["sequences"] |= measured["sequences"]
            trackers[name][f"frames per second, {modality}"] = measured["frames per second"]
            trackers[name]["network"] = asdict(tracked.settings)
    report = {"machine": machine(), "seeds": arguments.seeds, "trackers": trackers}
    print("\n".join(table(report)))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
