"""``mmdistill report``: trackers compared on one benchmark, as a page to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, cast

import tyro

from mmdistill.cli.benchmark_source import BenchmarkChoice, Unusable, print_data_issues, refuse_folders, refuse_split
from mmdistill.reference.models.cost import read_cost
from mmdistill.reference.synthetic import synthetic_sequences
from mmdistill.toolkit.data_issues import DataError, DataIssues, printable
from mmdistill.toolkit.datasets import BenchmarkName, Coverage, Split
from mmdistill.toolkit.evaluation.plots import PlotFormat, check_formats
from mmdistill.toolkit.evaluation.protocols import RULES
from mmdistill.toolkit.ranges import Count, Range, Seed
from mmdistill.toolkit.report.contents import Contents, collect_raw, collect_scored, known_of, name_folders, read_part
from mmdistill.toolkit.report.cost import Cost, read_saved_cost
from mmdistill.toolkit.report.markup import several
from mmdistill.toolkit.report.page import write_report


def report(
    folders: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    out: Path,
    benchmark: BenchmarkChoice | None = None,
    annotations: Path | None = None,
    root: Path | None = None,
    weights: tuple[str, ...] = (),
    looks: Annotated[int, Range(0, 1000)] = 2,
    title: str | None = None,
    plot_format: tuple[PlotFormat, ...] = ("png",),
    split: Split = "test",
    modality: Literal["rgb", "tir"] = "rgb",
    attribute_names: tuple[str, ...] = (),
    whole_pixels: bool = False,
    unusable: Unusable = "stop",
    partial: bool = False,
    count: Count = 20,
    seed: Seed = 1_000_000,
) -> None:
    """Compare trackers on one page: tables, plots, attributes, sequence by sequence.

    Folders that `evaluate --out` wrote:

      mmdistill report scored/student scored/teacher --out report.html

    Anyone's raw results; a folder's name is its tracker's, or say NAME=DIR:

      mmdistill report results/APFNet MINE=results/run7 --benchmark lasher --annotations ANNOTATIONS --out report.html

    With the images, frames in which two trackers part are shown:

      mmdistill report scored/student scored/teacher --root SEQUENCES --out report.html

    The page is one file that needs no network. Pictures of its plots are written beside it.

    Args:
        folders: one per tracker, DIR or NAME=DIR.
        out: the page, .html.
        benchmark: whose rule scores raw results; what `evaluate --out` scored says so itself.
        annotations: folder of the ground truth: sequence folders, or <sequence>.txt files; no images needed.
        root: folder of the benchmark, images and all; ground truth too, without --annotations.
        weights: NAME=FILE, a tracker's network.safetensors, for its parameters and multiply-adds.
        looks: how many sequences are looked at closely for each of two trackers.
        title: of the page.
        plot_format: png, svg, pdf, or several of them, for the pictures beside the page.
        split: which part of LasHeR: test (245 sequences), train (979) or all (1,224), by the official list of names.
        modality: what the images of single-modality vot sequences are.
        attribute_names: names of LSOTB-TIR's or PTB-TIR's attributes, in the order of their flags.
        whole_pixels: round predicted boxes to whole pixels first; some published GTOT figures did.
        unusable: stop: a sequence that can't be used ends the command. skip: it is left out, which the output says.
        partial: compare what is there of LasHeR's split and of its results. Without it missing ones are an error.
        count: how many synthetic sequences.
        seed: of the synthetic sequences.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"--out: expected a name that ends in .html, got {out}")
    if looks < 0:
        raise DataError(f"--looks: expected 0 or more, got {looks}")
    check_formats(plot_format)
    named = name_folders(folders)
    costs = _costs(named, weights)
    if benchmark is None:
        contents = collect_scored(named, costs)
    rule = contents.rule if benchmark is None else RULES[benchmark]
    if (annotations is not None or root is not None) and rule.benchmark not in RULES:
        raise DataError(f"{folders[0]}: scored on {rule.benchmark!r}, which is no benchmark with files on disk")
    refuse_split(rule.benchmark, split)
    if whole_pixels:
        rule = replace(rule, round_predictions=True)
    data_issues = DataIssues()
    grounded = annotations is not None or root is not None
    if rule.benchmark == "synthetic" and benchmark is not None:
        refuse_folders(annotations, root)
        truths = known_of(synthetic_sequences(count, seed=seed), images=True)
        contents = collect_raw(named, truths, rule, costs)
    elif rule.benchmark == "synthetic" and grounded:
        option = "--annotations" if root is None else "--root"
        raise DataError(f"{option}: synthetic video has none; give --benchmark synthetic")
    elif grounded:
        name = cast(BenchmarkName, rule.benchmark)
        truths, coverage = read_part(
            name,
            annotations,
            root,
            data_issues,
            modality=modality,
            split=split,
            attribute_names=attribute_names,
            on_invalid=unusable,
            partial=partial,
        )
        contents = collect_raw(named, truths, rule, costs, data_issues, coverage.outside_split)
        _print_coverage(coverage, contents, data_issues, partial)
    elif benchmark is not None:
        raise DataError("--annotations: expected the folder of the ground truth, or --root with images as well")
    elif whole_pixels:
        raise DataError("--whole-pixels: needs the ground truth too, --annotations or --root")
    paths = write_report(contents, out, looks=looks, made=date.today(), title=title, formats=plot_format)
    print(_summary(contents, out, paths))
    for whose, found in (("ground truth", data_issues), *((each.name, each.data_issues) for each in contents.trackers)):
        print_data_issues(found, whose=whose)


def _print_coverage(coverage: Coverage, contents: Contents, data_issues: DataIssues, partial: bool) -> None:
    """Print which part of a benchmark is compared; note it for the page where that is not all of the part.

    Raises:
        DataError: results for sequences of a split are missing though ``partial`` is not set.
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
    """Return the costs of networks that are given, and those that ``evaluate`` saved beside its results."""
    found = {name: cost for name, folder in folders.items() if (cost := read_saved_cost(folder)) is not None}
    for each in weights:
        name, equals, file = each.partition("=")
        if not equals or name not in folders:
            raise DataError(f"--weights: expected NAME=FILE with one of {', '.join(folders)}, got {each}")
        found[name] = read_cost(file)
    return found


def _summary(contents: Contents, out: Path, paths: list[Path]) -> str:
    trackers, sequences = several(len(contents.trackers), "tracker"), several(len(contents.sequences), "sequence")
    pictures = several(len(paths) - 1, "picture")
    return f"{printable(out)}: {trackers}, {sequences}, {out.stat().st_size / 2**20:.1f} MiB; {pictures} beside it"
