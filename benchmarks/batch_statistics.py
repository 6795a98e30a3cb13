"""Box estimation by the statistics of the batch and by the running ones, on pairs that training has not seen.

    python benchmarks/batch_statistics.py --pairs PAIRS --hold-out 30 before=W1 after=W2 --out FILE.json

A network that was trained in batches of a few sequences may do well by its batches' statistics, as in training, and
badly by its running ones, as in tracking. The figure is the mean squared error of the predicted IoU on the scale -1 to
1; what a constant would score stands beside it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from parts.machine import machine

from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.synthetic import scene_sequences
from mmdistill.reference.training.data_loader import BatchLoader, BatchShard
from mmdistill.reference.training.data_sources import composed_sequences
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import ProposalSettings, SampleSettings
from mmdistill.toolkit.datasets.image_pairs import open_pairs
from mmdistill.toolkit.sequence import TrackingSequence

SAMPLES = SampleSettings(train_frames=2, test_frames=2, proposals=ProposalSettings(count=64))


@torch.no_grad()
def box_error(network: TrackerNetwork, sequences: Sequence[TrackingSequence], steps: int) -> dict[str, float]:
    """Return the error by batch statistics, by running ones, and of a constant."""
    settings = network.settings
    sampler = Sampler(sequences, settings.crop_size, settings.search_area, SAMPLES, seed=1)
    errors: dict[str, list[float]] = {"batch": [], "running": [], "constant": []}
    state = {name: value.clone() for name, value in network.state_dict().items()}
    for loaded in BatchLoader(sampler, BatchShard(2)).batches(0, steps):
        batch = loaded.batch.to(torch.device("cpu"))
        target = 2 * batch.overlaps - 1
        for kind in ("batch", "running"):
            network.eval()
            network.iou_net.train(kind == "batch")
            predicted = network(batch.train, batch.train_boxes, batch.test, batch.proposals).iou
            errors[kind].append(float((predicted - target).square().mean()))
            network.load_state_dict(state)  # batch norm has counted the batch
        errors["constant"].append(float(target.var(correction=0)))
    return {kind: round(sum(values) / len(values), 4) for kind, values in errors.items()}


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["| Network | Video | Batch statistics | Running statistics | A constant |"]
    lines.append("| --- | --- | ---: | ---: | ---: |")
    for name, kinds in report["networks"].items():
        for kind, error in kinds.items():
            lines.append(
                f"| {name} | {kind} | {error['batch']:.3f} | {error['running']:.3f} | {error['constant']:.3f} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", help="NAME=WEIGHTS")
    parser.add_argument("--pairs", type=Path, required=True, help="folder of aligned pairs")
    parser.add_argument("--hold-out", type=int, default=30, help="how many pairs, the last by name, to measure on")
    parser.add_argument("--steps", type=int, default=20, help="batches of two sequences")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    held = slice(-arguments.hold_out, None)
    videos = {
        "composed": composed_sequences(arguments.pairs, held, count=40, seed=5),
        "scenes": scene_sequences(open_pairs(arguments.pairs)[held], 40, seed=5),
    }
    report: dict[str, Any] = {"machine": machine(), "batches": arguments.steps, "networks": {}}
    for named in arguments.networks:
        name, _, weights = named.partition("=")
        network = load_network(weights)
        report["networks"][name] = {
            kind: box_error(network, sequences, arguments.steps) for kind, sequences in videos.items()
        }
    print("\n".join(table(report)))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
