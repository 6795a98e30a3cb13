"""How long scoring a benchmark takes: LasHeR test, 245 sequences and 220,703 frames, text files to figures.

The annotations and a tracker's raw results are read and scored, several times over; times are those of one core's
processor, and the fastest counts, for others only ever add to it:

    python benchmarks/scoring_speed.py --annotations LasHeR/annos --results LasHeR/results/mfDiMP \
        --json benchmarks/results/scoring_speed.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from parts.machine import machine

from mmdistill.toolkit.datasets import BenchmarkName, open_benchmark
from mmdistill.toolkit.evaluation.formatting import format_table
from mmdistill.toolkit.evaluation.metrics import score_sequences
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.results import read_results
from mmdistill.toolkit.io import write_text

BUDGET = 5.0
"""Seconds that scoring LasHeR test may take on one core, reading included."""

Result = TypeVar("Result")


def timed(seconds: dict[str, list[float]], part: str, work: Callable[[], Result]) -> Result:
    """Return what a part of the work gives, and note how long it took."""
    start = time.process_time()
    result = work()
    seconds.setdefault(part, []).append(time.process_time() - start)
    return result


def measure(name: BenchmarkName, annotations: Path, results: Path, repeats: int) -> dict[str, Any]:
    """Return the fastest seconds of each part, the figures, and how much was scored."""
    seconds: dict[str, list[float]] = {}
    for _ in range(repeats):
        benchmark = timed(seconds, "reading annotations", partial(open_benchmark, name, annotations, images=False))
        frames = {each.name: len(each) for each in benchmark.sequences}
        boxes = timed(seconds, "reading results", partial(read_results, results, frames))
        scores = timed(
            seconds,
            "scoring",
            partial(score_sequences, boxes, benchmark.sequences, PROTOCOLS[name]),
        )
    fastest = {part: round(min(times), 3) for part, times in seconds.items()}
    return {
        "benchmark": name,
        "sequences": len(frames),
        "frames": sum(frames.values()),
        "figures": scores.overall.rates(),
        "seconds": {**fastest, "together": round(min(map(sum, zip(*seconds.values(), strict=True))), 3)},
        "budget": BUDGET,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", choices=get_args(BenchmarkName), default="lasher")
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True, help="one tracker's folder of raw results")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    report = measure(arguments.benchmark, arguments.annotations, arguments.results, arguments.repeats)
    print(f"{report['sequences']} sequences, {report['frames']:,} frames")
    print(format_table(["part", "seconds"], [[part, value] for part, value in report["seconds"].items()], decimals=2))
    if arguments.json:
        write_text(arguments.json, json.dumps({"machine": machine(), **report}, indent=2) + "\n")


if __name__ == "__main__":
    main()
