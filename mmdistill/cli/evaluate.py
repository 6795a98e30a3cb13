"""``mmdistill evaluate``: tracks a benchmark with a network, then scores the results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from mmdistill.cli.benchmark_options import BenchmarkChoice, BenchmarkOptions, OnInvalid
from mmdistill.cli.score_output import ScoreOutput
from mmdistill.toolkit.data_issues import DataIssues
from mmdistill.toolkit.datasets import Split
from mmdistill.toolkit.evaluation.plots import PlotFormat
from mmdistill.toolkit.evaluation.runner import run_benchmark
from mmdistill.toolkit.images import MaxPixels, set_max_pixels
from mmdistill.toolkit.ranges import Count, Range, Seed
from mmdistill.toolkit.report.cost import COST, save_cost
from mmdistill.toolkit.run_control import run_lock
from mmdistill.toolkit.video import OnBroken


def evaluate(
    benchmark: BenchmarkChoice,
    weights: Path,
    out: Path,
    root: Path | None = None,
    tracker: str = "mmdistill",
    export: Path | None = None,
    per_sequence: bool = False,
    plot_format: tuple[PlotFormat, ...] = ("png",),
    split: Split = "test",
    modality: Literal["rgb", "tir"] = "rgb",
    attribute_names: tuple[str, ...] = (),
    round_boxes: bool = False,
    batch_size: Annotated[int, Range(1, 10_000)] = 8,
    workers: Annotated[int, Range(1, 1024)] = 1,
    on_broken: OnBroken = "stop",
    on_invalid: OnInvalid = "stop",
    partial: bool = False,
    count: Count = 20,
    seed: Seed = 1_000_000,
    max_pixels: MaxPixels | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> None:
    """Track a benchmark with a network, then score the results.

    The same command resumes an interrupted run. To score result files of other trackers, use `mmdistill score`.

    Track RGBT234, and write result files, scores, speed and plots to a folder:

      mmdistill evaluate --benchmark rgbt234 --root RGBT234 --weights network.safetensors --out scored

    Track 16 videos at once on a GPU:

      mmdistill evaluate --benchmark lasher --root LasHeR --weights network.safetensors --out scored --batch-size 16

    Track synthetic video, which needs no download:

      mmdistill evaluate --benchmark synthetic --count 10 --weights network.safetensors --out scored

    Args:
        benchmark: Name of the benchmark. vot: a folder of VOT- or OTB-style sequences. synthetic: seeded video.
        weights: Network file, such as network.safetensors of `train`.
        out: Folder for results/, scores.json, curves.json, speed.json, cost.json and plots.
        root: Folder of the benchmark, with images and ground truth. Required, except for synthetic.
        tracker: Name of the tracker in plots and exported results.
        export: Folder for result files in the form of the benchmark's own toolkit.
        per_sequence: Print the scores of each sequence too. scores.json always has them.
        plot_format: Formats of the plots, such as: --plot-format png svg.
        split: Part of LasHeR by the official lists: test (245 sequences), train (979) or all (1,224).
        modality: Modality of vot sequences that have only one.
        attribute_names: Names of the attributes of LSOTB-TIR or PTB-TIR, in the order of their flags.
        round_boxes: Round predicted boxes to whole pixels before scoring.
        batch_size: Videos per batch. Does not change results.
        workers: Processes on the CPU, each with a video of its own. Does not change results.
        on_broken: stop: an unreadable image is an error. skip: its frame keeps the last box.
        on_invalid: stop: an invalid sequence is an error. skip: it is left out, and the output names it.
        partial: Track the available part of the sequences. Without it, missing ones are an error.
        count: Number of synthetic sequences.
        seed: Seed of the synthetic sequences, far from the seeds of training.
        max_pixels: Pixels of the largest image that is read. By default MMDISTILL_MAX_PIXELS, or 100,000,000.
        device: cpu, cuda, or auto.
        quiet: Show no progress.
    """
    options = BenchmarkOptions(
        benchmark, split, modality, attribute_names, on_invalid, partial=partial, count=count, seed=seed
    )
    output = ScoreOutput(tracker, out, None, export, per_sequence, plot_format, round_boxes)
    options.check_folder("--root", root)

    from mmdistill.cli.benchmark_run import RESULTS, choose_run, claim, report_speed
    from mmdistill.reference.models.cost import read_cost

    if max_pixels is not None:
        set_max_pixels(max_pixels)
    data_issues = DataIssues()
    run, setup = choose_run(weights, device, batch_size, workers, on_broken)
    sequences, coverage = options.open("--root", root, data_issues, images=True)
    with run_lock(out):
        claim(out, weights, options.title)
        print(coverage.line)
        save_cost(out / COST, read_cost(weights))
        boxes = run_benchmark(run, sequences, out / RESULTS, how=setup, progress=not quiet)
    report_speed(out, list(boxes))
    output.write(options, boxes, sequences, coverage, data_issues)
