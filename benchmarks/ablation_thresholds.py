"""Tracks with the ablation's networks at lower thresholds of "not found"; nothing is trained.

Below the threshold of 0.25 a target counts as not found and keeps its box. HFRD acts on scores, so that a threshold may
hide or feign its effect. Finished rows and seeds of --work-dir are tracked again; the same command resumes. Takes as
long as the tracking of the ablation, per row, seed and threshold.

Example:
    python benchmarks/ablation_thresholds.py --pairs PAIRS --work-dir runs/ablation --jobs 2 \
        --out benchmarks/results/ablation_thresholds.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parts.ablation.execution import CONFIDENCE, DEFAULT_NOT_FOUND, RunContext, Stage, add_execution_options
from parts.ablation.pool import pool
from parts.ablation.report import METRICS, compact_json, reported_scores
from parts.ablation.rows import ROWS
from parts.ablation.runs import NETWORK, SCORES, Experiment, Run, differing_settings, read_scores
from parts.ablation.sizes import SIZES
from parts.crossed_statistics import compare
from parts.report_fields import machine
from parts.seed_statistics import format_bounds, format_mean, mean_and_deviation

from mmdistill.reference.device import choose_device
from mmdistill.toolkit.io import write_text

THRESHOLDS = (0.1, 0.05)
"""Thresholds besides the default."""

DEFAULT_ROWS = ("student", "hfrd", "hfrd_exact", "scfd_mpsd", "cmd", "cmd_exact")

VIDEO = ("video", "held_out", "held_out_length", "validation_pairs", "test_pairs")
"""Fields of ``Size`` that determine the test video."""

REPORTED = ("PR", "NPR", "SR", "sequences", CONFIDENCE)


def threshold_run(row: str, seed: int, threshold: float) -> Run:
    """Return the tracking with a row's trained network at a threshold."""
    trained = f"seed_{seed}/{row}"
    folder = f"thresholds/{threshold:g}/{trained}"
    return Run(folder, None, None, None, "test", seed, teacher=trained, not_found=threshold)


def finished_rows(root: Path, rows: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Return the rows and seeds that are trained and tracked in a folder of runs."""
    return [
        (row, seed)
        for seed in seeds
        for row in rows
        if all((root / f"seed_{seed}" / row / name).exists() for name in (NETWORK, SCORES))
    ]


def read_experiment(root: Path, pairs: str) -> Experiment:
    """Return the experiment of a folder of runs, as far as tracking needs it; exit if it has another test video."""
    file = root / "experiment.json"
    if not file.exists():
        sys.exit(f"{file}: expected the folder of an ablation, got none")
    settings = json.loads(file.read_text())
    experiment = Experiment(SIZES[settings["size"]["name"]], pairs)
    if differing := differing_settings(experiment.describe(), settings, VIDEO):
        sys.exit(f"{root}: measured with other settings of the test video: {', '.join(differing)}")
    return experiment


def collect_results(root: Path, rows: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Return the finished runs' figures by seed, row and threshold, with the names of the sequences."""
    by_seed: dict[str, dict[str, Any]] = {}
    names: list[str] = []
    for row, seed in rows:
        trained = json.loads((root / f"seed_{seed}" / row / SCORES).read_text())
        names = names or list(trained["sequences"])
        found = {DEFAULT_NOT_FOUND: trained}
        for threshold in THRESHOLDS:
            if scores := read_scores(threshold_run(row, seed, threshold), root):
                found[threshold] = scores
        by_seed.setdefault(str(seed), {})[row] = {
            f"{threshold:g}": {
                name: value for name, value in reported_scores(scores, names).items() if name in REPORTED
            }
            for threshold, scores in found.items()
        }
    return {"sequences": names, "by seed": by_seed}


def table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table: each row at each threshold, and its difference to the default threshold.

    Intervals are 95 %, over seeds and sequences.
    """
    by_seed = {
        seed: {f"{row} {threshold}": scores for row, each in rows.items() for threshold, scores in each.items()}
        for seed, rows in report["by seed"].items()
    }
    base = f"{DEFAULT_NOT_FOUND:g}"
    lines = [
        f"| Tracker | Threshold | Seeds | PR | SR | PR minus that at {base} | SR minus that at {base} "
        "| Score on the target | Score off the target | Frames not found |",
        "| --- |" + " ---: |" * 4 + " --- | --- |" + " ---: |" * 3,
    ]
    for row in ROWS:
        for threshold in map("{:g}".format, (DEFAULT_NOT_FOUND, *THRESHOLDS)):
            name = f"{row} {threshold}"
            found = [rows[name] for rows in by_seed.values() if name in rows]
            if not found:
                continue
            cells = [ROWS[row].title, threshold, str(len(found))]
            cells += [format_mean(mean_and_deviation([scores[figure] for scores in found])) for figure in METRICS]
            for figure in METRICS:
                interval = compare(by_seed, name, f"{row} {base}", figure) if threshold != base else None
                cells.append("" if interval is None else format_bounds(interval.mean, interval.low, interval.high))
            cells += _confidence_cells([scores[CONFIDENCE] for scores in found])
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _confidence_cells(found: Sequence[Mapping[str, float | None]]) -> list[str]:
    """Return the mean scores on and off the target, and the mean share of frames not found, as text."""
    cells = []
    for part, digits, unit in (("on target", 2, ""), ("off target", 2, ""), ("not found", 1, " %")):
        values = [value for each in found if (value := each[part]) is not None]
        cells.append(f"{sum(values) / len(values):.{digits}f}{unit}" if values else "none")
    return cells


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default="", help="folder of pairs, as in the ablation")
    parser.add_argument("--work-dir", type=Path, required=True, help="the ablation's folder, with its networks")
    parser.add_argument(
        "--only", nargs="+", choices=ROWS, metavar="ROW", default=list(DEFAULT_ROWS), help="only these rows"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="seeds; default 0 1 2 3 4")
    parser.add_argument("--out", type=Path, required=True, help="JSON report")
    add_execution_options(parser)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    root, end = arguments.work_dir, time.time() + 60 * arguments.time_limit
    experiment = read_experiment(root, arguments.pairs)
    rows = finished_rows(root, arguments.only, arguments.seeds)
    device = choose_device(arguments.device).type
    stage = Stage(
        RunContext(experiment, root, device, arguments.threads, end, progress=arguments.jobs == 1), arguments.jobs
    )
    try:
        with pool(arguments.jobs, end) as map_runs:
            stage.execute([threshold_run(*row, threshold) for row in rows for threshold in THRESHOLDS], map_runs)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
    report = {
        "machine": machine() | {"device": device, "jobs": arguments.jobs, "threads": arguments.threads},
        "experiment": json.loads((root / "experiment.json").read_text()),
        **collect_results(root, rows),
        "unfinished": stage.unfinished,
    }
    write_text(arguments.out, compact_json(report) + "\n")
    print("\n".join([*table(report), "", f"unfinished: {len(stage.unfinished)}", *stage.unfinished]))
    if stage.failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
