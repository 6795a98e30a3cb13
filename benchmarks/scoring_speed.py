"""Measures the time to read and score a benchmark's text files, by default LasHeR test: 245 sequences, 220,703 frames.

Reads the annotations and a tracker's raw results, and scores them, several times. Reports the fastest processor time of
one core. Takes 5 seconds.

Example:
    python benchmarks/scoring_speed.py --annotations LasHeR/annos --results LasHeR/results/mfDiMP \
        --out benchmarks/results/scoring_speed.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from parts.report_fields import machine

from mmdistill.toolkit.datasets import BenchmarkName, open_benchmark
from mmdistill.toolkit.evaluation.formatting import format_table
from mmdistill.toolkit.evaluation.metrics import score_sequences
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.results import read_results
from mmdistill.toolkit.io import write_text

BUDGET = 5.0
"""Limit for reading and scoring LasHeR test on one core, seconds."""

Result = TypeVar("Result")


def timed(seconds: dict[str, list[float]], part: str, work: Callable[[], Result]) -> Result:
    """Return the result of ``work`` and append its seconds to a part."""
    start = time.process_time()
    result = work()
    seconds.setdefault(part, []).append(time.process_time() - start)
    return result


def measure(name: BenchmarkName, annotations: Path, results: Path, repeats: int) -> dict[str, Any]:
    """Return the fastest seconds of each part, the figures, and the numbers of sequences and frames."""
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
        "seconds": {**fastest, "total": round(min(map(sum, zip(*seconds.values(), strict=True))), 3)},
        "budget": BUDGET,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", choices=get_args(BenchmarkName), default="lasher", help="default lasher")
    parser.add_argument("--annotations", type=Path, required=True, help="the benchmark's annotations")
    parser.add_argument("--results", type=Path, required=True, help="one tracker's folder of raw results")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions; default 5")
    parser.add_argument("--out", type=Path, help="JSON report")
    arguments = parser.parse_args()
    report = measure(arguments.benchmark, arguments.annotations, arguments.results, arguments.repeats)
    print(f"{report['sequences']} sequences, {report['frames']:,} frames")
    print(format_table(["part", "seconds"], [[part, value] for part, value in report["seconds"].items()], decimals=2))
    if arguments.out:
        write_text(arguments.out, json.dumps({"machine": machine(), **report}, indent=2) + "\n")


if __name__ == "__main__":
    main()
