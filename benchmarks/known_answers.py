"""Measures trackers' figures from their published raw results, by each benchmark's protocol.

METRICS holds `GTOT`, `RGBT234` and `LasHeR245`, each with annotations and a folder `results` of trackers' folders.
`whole_pixels` has the figures with rounded boxes. If a tracker's published figures result with one sequence scored
zero, `without` lists the possible sequences. Takes half a minute on one core.

Example:
    python benchmarks/known_answers.py --metrics METRICS --out benchmarks/results/known_answers.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from parts.report_fields import machine

from mmdistill.toolkit.datasets import BenchmarkName, LabeledSequence, open_benchmark
from mmdistill.toolkit.evaluation.metrics import ground_truth_of, score_sequences
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.results import read_benchmark_results
from mmdistill.toolkit.evaluation.scores import BenchmarkScores
from mmdistill.toolkit.io import write_text

FOLDERS: dict[BenchmarkName, str] = {"lasher": "LasHeR245", "rgbt234": "RGBT234", "gtot": "GTOT"}
TITLES = {"lasher": "LasHeR", "rgbt234": "RGBT234", "gtot": "GTOT"}

PUBLISHED_WITH_ONE_ZERO = {("rgbt234", "DFAT"): (75.8, 55.2)}
"""Published PR and SR that result if one sequence is scored zero."""


def measure(metrics: Path, name: BenchmarkName) -> list[dict[str, object]]:
    """Return every tracker's figures on one benchmark, to one decimal."""
    folder = metrics / FOLDERS[name]
    sequences = open_benchmark(name, folder, images=False).sequences
    return [_figures(results, name, sequences) for results in sorted((folder / "results").iterdir())]


def _figures(folder: Path, name: BenchmarkName, sequences: list[LabeledSequence]) -> dict[str, object]:
    boxes = read_benchmark_results(folder, {each.name: ground_truth_of(each) for each in sequences})
    exact = score_sequences(boxes, sequences, PROTOCOLS[name])
    whole = score_sequences(boxes, sequences, replace(PROTOCOLS[name], round_predictions=True))
    row = {"benchmark": name, "tracker": folder.name, **_printed(exact), "whole_pixels": _printed(whole)}
    published = PUBLISHED_WITH_ONE_ZERO.get((name, folder.name))
    return row if published is None else {**row, "published": published, "without": _lost(exact, published)}


def _printed(scores: BenchmarkScores) -> dict[str, float]:
    return {figure: round(value, 1) for figure, value in scores.overall.rates().items()}


def _lost(scores: BenchmarkScores, published: tuple[float, float]) -> list[str]:
    """Return the sequences that give the published PR and SR if scored zero."""
    overall, count = scores.overall, len(scores.sequences)
    return [
        name
        for name, each in scores.sequences.items()
        if (round(overall.PR - each.PR / count, 1), round(overall.SR - each.SR / count, 1)) == published
    ]


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table; NPR only for LasHeR, which publishes it."""
    lines = ["| Benchmark | Tracker | PR | NPR | SR |", "|---|---|---:|---:|---:|"]
    for each in report["trackers"]:
        normalized = f" {each['NPR']:.1f}" if each["benchmark"] == "lasher" else ""
        title = TITLES[each["benchmark"]]
        lines.append(f"| {title} | {each['tracker']} | {each['PR']:.1f} |{normalized} | {each['SR']:.1f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, required=True, help="folder of the benchmarks")
    parser.add_argument("--out", type=Path, help="JSON report")
    arguments = parser.parse_args()
    trackers = [each for name in FOLDERS for each in measure(arguments.metrics, name)]
    report = {"machine": machine(), "trackers": trackers}
    print("\n".join(table(report)))
    if arguments.out:
        write_text(arguments.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
