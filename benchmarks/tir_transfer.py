"""What TIR-CMD teaches, across modalities and within TIR, on pairs that training has not seen.

    python benchmarks/tir_transfer.py --from rgb.safetensors --pairs PAIRS --hold-out 30 --out FILE.json \
        C1=runs/C1/network.safetensors B3=runs/seed_0/B3/network.safetensors B3=runs/seed_1/B3/network.safetensors

A setting learns with RGB in one branch and TIR in the other; what is then tracked is TIR in both. Each network's errors
are measured either way, and with RGB in both, on central patches by its running statistics: of target center location
DiMP's hinge-like residual and the peak of the score maps, of box estimation the predicted IoU on the scale -1 to 1. The
start stands first. A name that is given several times is a setting over seeds; their mean is shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from parts.machine import machine

from mmdistill import Pair
from mmdistill._numerics import hinge_residual
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.tracker_network import TrackerNetwork, to_tir_network
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.training.data_loader import Batch, BatchLoader, BatchShard
from mmdistill.reference.training.settings import SCHEDULES
from mmdistill.reference.training.stages import score_labels
from mmdistill.reference.training.tir_cmd.samples import PatchSamples
from mmdistill.tir_cmd import SETTINGS, mix
from mmdistill.tir_cmd.settings import ModalityMix
from mmdistill.toolkit.datasets.image_pairs import Pairs, open_pairs
from mmdistill.toolkit.io import write_text

START = "the start"
WAYS: tuple[tuple[ModalityMix, ModalityMix], ...] = (("rgb", "rgb"), ("tir", "rgb"), ("tir", "tir"))
"""What the reference branch and what the test branch see."""

FIGURES = ("location", "peak", "box")
BACKGROUND = 0.05
"""Below which label a cell is background, as in DiMP's loss."""


def held_out_batches(pairs: Pairs, settings: NetworkSettings, count: int) -> list[Batch]:
    """Return batches of five central patches."""
    center = SETTINGS["C1"]
    training = SCHEDULES["short"].training(center, seed=1)
    sampler = PatchSamples(pairs, settings, progress=False)(center, training).sampler
    loader = BatchLoader(sampler, BatchShard(training.batch_size))
    return [loaded.batch.to(torch.device("cpu")) for loaded in loader.batches(0, count)]


@torch.no_grad()
def errors(network: TrackerNetwork, found: Sequence[Batch], way: tuple[ModalityMix, ModalityMix]) -> dict[str, float]:
    """Return a network's means over batches with its branches seeing one modality each."""
    one = TrackerNetwork(replace(network.settings, modality="rgb"))
    one.load_state_dict(network.state_dict())
    one.eval()
    values: dict[str, list[float]] = {figure: [] for figure in FIGURES}
    for batch in found:
        known, seen = (mix(part, side, dim=1) for part, side in zip((batch.train, batch.test), way, strict=True))
        predictions = one(Pair(known, known), batch.train_boxes, Pair(seen, seen), batch.proposals)
        values["box"].append(float((predictions.iou - (2 * batch.overlaps - 1)).square().mean()))
        if predictions.scores is None:
            continue
        scores, label = predictions.scores[-1], score_labels(batch.test_boxes, one.settings)
        values["location"].append(float(hinge_residual(scores, label, BACKGROUND).square().mean()))
        values["peak"].append(float(scores.amax(dim=(-2, -1)).mean()))
    return {figure: statistics.mean(each) for figure, each in values.items() if each}


def measured(networks: Sequence[TrackerNetwork], found: Sequence[Batch]) -> dict[str, Any]:
    """Return by way each figure's mean over the networks of a name."""
    rows = {}
    for way in WAYS:
        each = [errors(network, found, way) for network in networks]
        rows["-".join(way)] = {figure: round(statistics.mean(one[figure] for one in each), 4) for figure in each[0]}
    return {"networks": len(networks), **rows}


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table: of each figure RGB alone, TIR on RGB, TIR alone."""
    titles = {"location": "Location", "peak": "Peak", "box": "Box"}
    ways = {"rgb-rgb": "RGB", "tir-rgb": "TIR on RGB", "tir-tir": "TIR"}
    columns = [f"{title}, {way}" for title in titles.values() for way in ways.values()]
    lines = ["| Network | " + " | ".join(columns) + " |", "| --- " + "| ---: " * len(columns) + "|"]
    digits = {"location": 4, "peak": 2, "box": 3}
    for name, found in report["networks"].items():
        cells = [
            f"{found[way][figure]:.{digits[figure]}f}" if figure in found[way] else ""
            for figure in titles
            for way in ways
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="NAME=WEIGHTS")
    parser.add_argument("--from", dest="start", required=True, help="weights of the start")
    parser.add_argument("--pairs", type=Path, required=True, help="folder of aligned pairs")
    parser.add_argument("--hold-out", type=int, default=30, help="how many pairs, the last by name, to measure on")
    parser.add_argument("--batches", type=int, default=24, help="of five patches")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    networks = {START: [to_tir_network(load_network(arguments.start))]}
    for named in arguments.networks:
        name, _, weights = named.partition("=")
        networks.setdefault(name, []).append(load_network(weights))
    pairs = open_pairs(arguments.pairs, on_broken="skip")[-arguments.hold_out :]
    found = held_out_batches(pairs, networks[START][0].settings, arguments.batches)
    report: dict[str, Any] = {
        "machine": machine(),
        "pairs": len(pairs),
        "batches": len(found),
        "networks": {name: measured(each, found) for name, each in networks.items()},
    }
    print("\n".join(table(report)))
    if arguments.out is not None:
        write_text(arguments.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
