"""``mmdistill report``: compares trackers on one benchmark in one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, cast

import tyro

from mmdistill.cli.alignment_option import check_benchmark_is_unaligned, load_alignment
from mmdistill.cli.arguments import ArgumentError, check_split, refuse_folder
from mmdistill.cli.benchmark_options import BenchmarkChoice, OnInvalid, print_data_issues
from mmdistill.toolkit.data_issues import DataError, DataIssues, printable
from mmdistill.toolkit.datasets import BenchmarkName, Coverage, Split
from mmdistill.toolkit.evaluation.efficiency import Cost, read_saved_cost
from mmdistill.toolkit.evaluation.formatting import pluralize
from mmdistill.toolkit.evaluation.plots import PlotFormat, check_plot_formats
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.ranges import Count, Range, Seed
from mmdistill.toolkit.report.contents import (
    Contents,
    collect_ground_truth,
    collect_raw,
    collect_scored,
    name_folders,
    read_ground_truth,
)
from mmdistill.toolkit.report.page import write_report


def report(
    folders: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    out: Path,
    benchmark: BenchmarkChoice | None = None,
    annotations: Path | None = None,
    root: Path | None = None,
    weights: tuple[str, ...] = (),
    examples: Annotated[int, Range(0, 1000)] = 2,
    title: str | None = None,
    plot_format: tuple[PlotFormat, ...] = ("png",),
    split: Split = "test",
    modality: Literal["rgb", "tir"] = "rgb",
    attribute_names: tuple[str, ...] = (),
    round_boxes: bool = False,
    on_invalid: OnInvalid = "stop",
    partial: bool = False,
    align: Path | None = None,
    count: Count = 20,
    seed: Seed = 1_000_000,
) -> None:
    """Compare trackers on one HTML page.

    The page has tables, plots, attributes, and each sequence. It is one file that needs no network. Plots are also
    written beside it. Needs no PyTorch.

    Compare folders that `evaluate` or `score --out` wrote:

      mmdistill report scored/student scored/teacher --out report.html

    Compare result files of any trackers. A tracker has the name of its folder, or that of NAME=DIR:

      mmdistill report results/APFNet MINE=results/run7 --benchmark lasher --annotations ANNOTATIONS --out report.html

    Show frames too, in which the boxes of two trackers differ:

      mmdistill report scored/student scored/teacher --root SEQUENCES --out report.html

    Args:
        folders: Folder of each tracker, DIR or NAME=DIR.
        out: File of the page, .html.
        benchmark: Name of the benchmark, for result files. Scored folders have it.
        annotations: Folder of the ground truth: sequence folders, or SEQUENCE.txt files. Needs no images.
        root: Folder of the benchmark with images. Has the ground truth too, without --annotations.
        weights: Network file of a tracker, as NAME=FILE, to show its parameters and multiply-adds. Needs PyTorch.
        examples: Sequences with frames and closeups for each pair of trackers.
        title: Title of the page.
        plot_format: Formats of the plots beside the page, such as: --plot-format png svg.
        split: Part of LasHeR by the official lists: test (245 sequences), train (979) or all (1,224).
        modality: Modality of vot sequences that have only one.
        attribute_names: Names of the attributes of LSOTB-TIR or PTB-TIR, in the order of their flags.
        round_boxes: Round predicted boxes to whole pixels first, as for some published GTOT figures.
        on_invalid: stop: an invalid sequence is an error. skip: it is left out, and the output names it.
        partial: Compare the available part of LasHeR's split and of its results. Without it, missing ones are an error.
        align: File of `align`, for frames of vot sequences that are not aligned.
        count: Number of synthetic sequences.
        seed: Seed of the synthetic sequences.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError(f"--out: expected a name that ends in .html, got {out}")
    check_plot_formats(plot_format)
    named = name_folders(folders)
    costs = _costs(named, weights)
    if benchmark is None:
        contents = collect_scored(named, costs)
    rule = contents.protocol if benchmark is None else PROTOCOLS[benchmark]
    if (annotations is not None or root is not None) and rule.benchmark not in PROTOCOLS:
        raise DataError(f"{folders[0]}: expected scores on a benchmark with files, got {rule.benchmark!r}")
    check_split(rule.benchmark, split)
    check_benchmark_is_unaligned(rule.benchmark, align, images=root is not None)
    if round_boxes:
        rule = replace(rule, round_predictions=True)
    data_issues = DataIssues()
    has_truth = annotations is not None or root is not None
    if rule.benchmark == "synthetic" and benchmark is not None:
        from mmdistill.reference.synthetic import synthetic_sequences

        refuse_folder("--annotations", annotations)
        refuse_folder("--root", root)
        truths = collect_ground_truth(synthetic_sequences(count, seed=seed), images=True)
        contents = collect_raw(named, truths, rule, costs)
    elif rule.benchmark == "synthetic" and has_truth:
        option = "--annotations" if root is None else "--root"
        raise ArgumentError(f"{option}: synthetic video has none; give --benchmark synthetic")
    elif has_truth:
        name = cast(BenchmarkName, rule.benchmark)
        truths, coverage = read_ground_truth(
            name,
            annotations,
            root,
            data_issues,
            modality=modality,
            split=split,
            attribute_names=attribute_names,
            on_invalid=on_invalid,
            partial=partial,
            alignment=None if align is None else load_alignment(align),
        )
        contents = collect_raw(named, truths, rule, costs, data_issues, coverage.outside_split)
        _print_coverage(coverage, contents, data_issues, partial)
    elif benchmark is not None:
        raise ArgumentError("--annotations: expected the folder of the ground truth, or --root with images as well")
    elif round_boxes:
        raise ArgumentError("--round-boxes: needs the ground truth too, --annotations or --root")
    paths = write_report(contents, out, examples=examples, created=date.today(), title=title, formats=plot_format)
    print(_summary(contents, out, paths))
    print_data_issues(data_issues, source="ground truth")
    for each in contents.trackers:
        print_data_issues(each.data_issues, source=each.name)


def _print_coverage(coverage: Coverage, contents: Contents, data_issues: DataIssues, partial: bool) -> None:
    """Print which part of a benchmark is compared; add it to the data issues if it is not complete.

    Raises:
        DataError: Results of the split are missing, and ``partial`` is not set.
    """
    without = tuple(dict.fromkeys(name for each in contents.trackers for name in each.missing))
    coverage = replace(coverage, used=len(contents.sequences), without_result=without)
    if coverage.split and without and not partial:
        raise DataError(f"report: {coverage.summary}; with --partial the others are compared")
    if coverage.official_count is not None:
        print(coverage.summary)
        if not coverage.complete:
            data_issues.add(coverage.summary)


def _costs(folders: Mapping[str, Path], weights: tuple[str, ...]) -> dict[str, Cost]:
    """Return the cost of each tracker: of its weights, or as ``evaluate`` saved it beside the results."""
    costs = {name: cost for name, folder in folders.items() if (cost := read_saved_cost(folder)) is not None}
    for each in weights:
        name, equals, file = each.partition("=")
        if not equals or name not in folders:
            raise ArgumentError(f"--weights: expected NAME=FILE with one of {', '.join(folders)}, got {each}")
        from mmdistill.reference.models.cost import read_cost  # the only part that needs PyTorch

        costs[name] = read_cost(file)
    return costs


def _summary(contents: Contents, out: Path, paths: list[Path]) -> str:
    trackers, sequences = pluralize(len(contents.trackers), "tracker"), pluralize(len(contents.sequences), "sequence")
    pictures = pluralize(len(paths) - 1, "picture")
    return f"{printable(out)}: {trackers}, {sequences}, {out.stat().st_size / 2**20:.1f} MiB; {pictures} beside it"
