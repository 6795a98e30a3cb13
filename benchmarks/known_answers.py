"""Trackers' figures from their own raw results, by the rules of the benchmarks they are published on.

A folder holds `GTOT`, `RGBT234` and `LasHeR245`, each with annotations and a folder `results` of trackers' folders:

    python benchmarks/known_answers.py --metrics METRICS --json benchmarks/results/known_answers.json

Whole pixels are the figures with predicted boxes rounded first. `without` says, for a tracker whose published figures
are those with one sequence scored zero, which sequence that can be.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from parts.machine import machine

from mmdistill.toolkit.datasets import BenchmarkName, LabeledSequence, open_benchmark
from mmdistill.toolkit.evaluation.metrics import ground_truth_of, score_sequences
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.results import read_benchmark_results
from mmdistill.toolkit.evaluation.scores import BenchmarkScores
from mmdistill.toolkit.io import write_text

PLACES: dict[BenchmarkName, str] = {"lasher": "LasHeR245", "rgbt234": "RGBT234", "gtot": "GTOT"}
TITLES = {"lasher": "LasHeR", "rgbt234": "RGBT234", "gtot": "GTOT"}

ONE_LOST = {("rgbt234", "DFAT"): (75.8, 55.2)}
"""Published PR and SR that the raw results give with one sequence scored zero."""


def measure(metrics: Path, name: BenchmarkName) -> list[dict[str, object]]:
    """Return the figures of every tracker on one benchmark, to the printed decimal."""
    place = metrics / PLACES[name]
    sequences = open_benchmark(name, place, images=False).sequences
    return [_figures(folder, name, sequences) for folder in sorted((place / "results").iterdir())]


def _figures(folder: Path, name: BenchmarkName, sequences: list[LabeledSequence]) -> dict[str, object]:
    boxes = read_benchmark_results(folder, {each.name: ground_truth_of(each) for each in sequences})
    exact = score_sequences(boxes, sequences, PROTOCOLS[name])
    whole = score_sequences(boxes, sequences, replace(PROTOCOLS[name], round_predictions=True))
    found = {"benchmark": name, "tracker": folder.name, **_printed(exact), "whole_pixels": _printed(whole)}
    published = ONE_LOST.get((name, folder.name))
    return found if published is None else {**found, "published": published, "without": _lost(exact, published)}


def _printed(scores: BenchmarkScores) -> dict[str, float]:
    return {figure: round(value, 1) for figure, value in scores.overall.rates().items()}


def _lost(scores: BenchmarkScores, published: tuple[float, float]) -> list[str]:
    """Return the sequences that, scored zero, give the published PR and SR."""
    overall, count = scores.overall, len(scores.sequences)
    return [
        name
        for name, each in scores.sequences.items()
        if (round(overall.PR - each.PR / count, 1), round(overall.SR - each.SR / count, 1)) == published
    ]


def table(report: dict[str, Any]) -> list[str]:
    """Return the figures as a Markdown table; NPR where the benchmark's publication has it."""
    lines = ["| Benchmark | Tracker | PR | NPR | SR |", "|---|---|---:|---:|---:|"]
    for each in report["trackers"]:
        normalized = f" {each['NPR']:.1f}" if each["benchmark"] == "lasher" else ""
        title = TITLES[each["benchmark"]]
        lines.append(f"| {title} | {each['tracker']} | {each['PR']:.1f} |{normalized} | {each['SR']:.1f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    found = [each for name in PLACES for each in measure(arguments.metrics, name)]
    report = {"machine": machine(), "trackers": found}
    print("\n".join(table(report)))
    if arguments.json:
        write_text(arguments.json, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
