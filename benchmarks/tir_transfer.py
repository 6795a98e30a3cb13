"""Measures what TIR-CMD's settings teach, across modalities and within TIR, on pairs that training has not seen.

A setting trains with RGB in one branch and TIR in the other; the tracker then has TIR in both. Measures each network's
errors with every combination, on central patches and with running statistics: DiMP's hinge residual and the peak of the
score maps, and the squared error of the predicted IoU on the scale -1 to 1. A name given several times is a setting
over seeds; the table has the mean. Takes half a minute per network on one core.

Example:
    python benchmarks/tir_transfer.py --init-from rgb.safetensors --pairs PAIRS --out FILE.json \
        C1=runs/C1/network.safetensors B3=runs/seed_0/B3/network.safetensors B3=runs/seed_1/B3/network.safetensors
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
from parts.report_fields import machine

from mmdistill import Pair
from mmdistill._numerics import hinge_residual
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.tracker_network import TrackerNetwork, to_tir_network
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.training.data_loader import Batch, BatchLoader, BatchShard
from mmdistill.reference.training.stages import score_labels
from mmdistill.reference.training.tir_cmd.samples import PatchSamples
from mmdistill.reference.training.tir_cmd.settings import SCHEDULES
from mmdistill.tir_cmd import SETTINGS, mix
from mmdistill.tir_cmd.settings import ModalityMix
from mmdistill.toolkit.datasets.image_pairs import Pairs, open_pairs
from mmdistill.toolkit.io import write_text

START = "the start"
BRANCH_MODALITIES: tuple[tuple[ModalityMix, ModalityMix], ...] = (("rgb", "rgb"), ("tir", "rgb"), ("tir", "tir"))
"""Modalities of the reference branch and of the test branch."""

FIGURES = ("location", "peak", "box")
BACKGROUND_LABEL = 0.05
"""Cells with a smaller label are background, as in DiMP's loss."""


def make_test_batches(pairs: Pairs, settings: NetworkSettings, count: int) -> list[Batch]:
    """Return batches of central patches."""
    center = SETTINGS["C1"]
    training = SCHEDULES["short"].training(center, seed=1)
    sampler = PatchSamples(pairs, settings, progress=False)(center, training).sampler
    loader = BatchLoader(sampler, BatchShard(training.batch_size))
    return [loaded.batch.to(torch.device("cpu")) for loaded in loader.batches(0, count)]


@torch.no_grad()
def mean_errors(
    network: TrackerNetwork, batches: Sequence[Batch], modalities: tuple[ModalityMix, ModalityMix]
) -> dict[str, float]:
    """Return a network's mean errors over batches, with one modality per branch."""
    copy = TrackerNetwork(replace(network.settings, modality="rgb"))
    copy.load_state_dict(network.state_dict())
    copy.eval()
    values: dict[str, list[float]] = {figure: [] for figure in FIGURES}
    for batch in batches:
        reference, test = (
            mix(part, side, dim=1) for part, side in zip((batch.train, batch.test), modalities, strict=True)
        )
        predictions = copy(Pair(reference, reference), batch.train_boxes, Pair(test, test), batch.proposals)
        values["box"].append(float((predictions.iou - (2 * batch.overlaps - 1)).square().mean()))
        if predictions.scores is None:
            continue
        scores, label = predictions.scores[-1], score_labels(batch.test_boxes, copy.settings)
        values["location"].append(float(hinge_residual(scores, label, BACKGROUND_LABEL).square().mean()))
        values["peak"].append(float(scores.amax(dim=(-2, -1)).mean()))
    return {figure: statistics.mean(each) for figure, each in values.items() if each}


def measure(networks: Sequence[TrackerNetwork], batches: Sequence[Batch]) -> dict[str, Any]:
    """Return each figure's mean over the networks of a name, by the branches' modalities."""
    rows = {}
    for modalities in BRANCH_MODALITIES:
        each = [mean_errors(network, batches, modalities) for network in networks]
        rows["-".join(modalities)] = {
            figure: round(statistics.mean(errors[figure] for errors in each), 4) for figure in each[0]
        }
    return {"networks": len(networks), **rows}


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of each figure, by the branches' modalities."""
    titles = {"location": "Location", "peak": "Peak", "box": "Box"}
    ways = {"rgb-rgb": "RGB", "tir-rgb": "TIR on RGB", "tir-tir": "TIR"}
    columns = [f"{title}, {way}" for title in titles.values() for way in ways.values()]
    lines = ["| Network | " + " | ".join(columns) + " |", "| --- " + "| ---: " * len(columns) + "|"]
    digits = {"location": 4, "peak": 2, "box": 3}
    for name, errors_by_branch in report["networks"].items():
        cells = [
            f"{errors_by_branch[way][figure]:.{digits[figure]}f}" if figure in errors_by_branch[way] else ""
            for figure in titles
            for way in ways
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NAME=WEIGHTS", help="networks to measure")
    parser.add_argument("--init-from", required=True, help="weights of the initial network")
    parser.add_argument("--pairs", type=Path, required=True, help="folder of aligned pairs")
    parser.add_argument(
        "--num-test-pairs", type=int, default=30, help="pairs to measure on, the last by name; default 30"
    )
    parser.add_argument("--batches", type=int, default=24, help="batches of five patches; default 24")
    parser.add_argument("--out", type=Path, help="JSON report")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    networks = {START: [to_tir_network(load_network(arguments.init_from))]}
    for named in arguments.networks:
        name, _, weights = named.partition("=")
        networks.setdefault(name, []).append(load_network(weights))
    pairs = open_pairs(arguments.pairs, on_broken="skip")[-arguments.num_test_pairs :]
    batches = make_test_batches(pairs, networks[START][0].settings, arguments.batches)
    report: dict[str, Any] = {
        "machine": machine(),
        "pairs": len(pairs),
        "batches": len(batches),
        "networks": {name: measure(each, batches) for name, each in networks.items()},
    }
    print("\n".join(table(report)))
    if arguments.out is not None:
        write_text(arguments.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
