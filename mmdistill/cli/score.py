"""``mmdistill score``: scores result files of any tracker."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmdistill.cli.benchmark_options import BenchmarkChoice, BenchmarkOptions, OnInvalid
from mmdistill.cli.score_output import ScoreOutput
from mmdistill.toolkit.data_issues import DataIssues
from mmdistill.toolkit.datasets import Split
from mmdistill.toolkit.evaluation.metrics import truths_of
from mmdistill.toolkit.evaluation.plots import PlotFormat
from mmdistill.toolkit.evaluation.results import read_results_for
from mmdistill.toolkit.ranges import Count, Seed


def score(
    benchmark: BenchmarkChoice,
    results: Path,
    annotations: Path | None = None,
    json: Path | None = None,
    out: Path | None = None,
    tracker: str | None = None,
    export: Path | None = None,
    per_sequence: bool = False,
    plot_format: tuple[PlotFormat, ...] = ("png",),
    split: Split = "test",
    modality: Literal["rgb", "tir"] = "rgb",
    attribute_names: tuple[str, ...] = (),
    round_boxes: bool = False,
    on_invalid: OnInvalid = "stop",
    partial: bool = False,
    count: Count = 20,
    seed: Seed = 1_000_000,
) -> None:
    """Score the result files of any tracker on a benchmark.

    Prints PR, NPR and SR in percent, overall and by attribute, by the benchmark's own rule.
    Needs no images and no PyTorch.

    Print the scores of a tracker on LasHeR, and write them to a file:

      mmdistill score --benchmark lasher --annotations LasHeR/annos --results RESULTS/mfDiMP --json scores.json

    Write scores, curves and plots, which `mmdistill report` compares:

      mmdistill score --benchmark gtot --annotations GTOT --results RESULTS/JMMAC --out scored/JMMAC

    Convert the result files to the form of the benchmark's own toolkit:

      mmdistill score --benchmark rgbt234 --annotations RGBT234 --results RESULTS/mine --export for_toolkit

    Args:
        benchmark: Name of the benchmark. vot: a folder of VOT- or OTB-style sequences. synthetic: seeded video.
        results: Folder of result files, SEQUENCE.txt or TRACKER_SEQUENCE.txt. A line has x,y,w,h in pixels, or the
            8 coordinates of corners. VOT's raw results and .mat files are read too.
        annotations: Folder of the ground truth: sequence folders, or SEQUENCE.txt files. Required, except for
            synthetic.
        json: File for the scores.
        out: Folder for scores.json, curves.json and plots.
        tracker: Name of the tracker in plots and exported results. By default the name of the results folder.
        export: Folder for result files in the form of the benchmark's own toolkit.
        per_sequence: Print the scores of each sequence too. --json and --out always have them.
        plot_format: Formats of the plots in --out, such as: --plot-format png svg.
        split: Part of LasHeR by the official lists: test (245 sequences), train (979) or all (1,224).
        modality: Modality of vot sequences that have only one.
        attribute_names: Names of the attributes of LSOTB-TIR or PTB-TIR, in the order of their flags.
        round_boxes: Round predicted boxes to whole pixels first, as for some published GTOT figures.
        on_invalid: stop: an invalid sequence is an error. skip: it is left out, and the output names it.
        partial: Score the available part of the sequences and results. Without it, missing ones are an error.
        count: Number of synthetic sequences.
        seed: Seed of the synthetic sequences.
    """
    options = BenchmarkOptions(
        benchmark, split, modality, attribute_names, on_invalid, partial=partial, count=count, seed=seed
    )
    name = tracker or results.resolve().name
    output = ScoreOutput(name, out, json, export, per_sequence, plot_format, round_boxes)
    data_issues = DataIssues()
    sequences, coverage = options.open("--annotations", annotations, data_issues, images=False)
    sequences, coverage = options.select_with_results(results, sequences, coverage)
    print(coverage.line)
    boxes = read_results_for(results, {each.name: truths_of(each) for each in sequences}, data_issues=data_issues)
    output.write(options, boxes, sequences, coverage, data_issues)
