"""Measures the error of box estimation with batch statistics and with running statistics, on unseen pairs.

A network trained with few samples per batch can be good with batch statistics (training) and bad with running
statistics (tracking). The error is the mean squared error of the predicted IoU on the scale -1 to 1, next to that of a
constant. Takes a minute per network on one core.

Example:
    python benchmarks/batch_statistics.py --pairs PAIRS --num-test-pairs 30 before=W1 after=W2 --out FILE.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from parts.report_fields import machine

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
    """Return the error with batch statistics, with running statistics, and of a constant."""
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
            network.load_state_dict(state)  # undoes the update of batch norm
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
    parser.add_argument("networks", nargs="+", metavar="NAME=WEIGHTS", help="networks to measure")
    parser.add_argument("--pairs", type=Path, required=True, help="folder of aligned pairs")
    parser.add_argument(
        "--num-test-pairs", type=int, default=30, help="pairs to measure on, the last by name; default 30"
    )
    parser.add_argument("--steps", type=int, default=20, help="batches of two samples; default 20")
    parser.add_argument("--out", type=Path, help="JSON report")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    test_pairs = slice(-arguments.num_test_pairs, None)
    videos = {
        "composed": composed_sequences(arguments.pairs, test_pairs, count=40, seed=5),
        "scenes": scene_sequences(open_pairs(arguments.pairs)[test_pairs], 40, seed=5),
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
