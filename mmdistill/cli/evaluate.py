"""``mmdistill evaluate``: score raw result files, run our tracker over a benchmark and score it, or check a copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from mmdistill.cli.benchmark_run import RESULTS, choose_run, claim, report_speed
from mmdistill.cli.benchmark_source import BenchmarkChoice, BenchmarkSource, Unusable, print_checked, print_data_issues
from mmdistill.reference.models.cost import read_cost
from mmdistill.toolkit.data_issues import MAX_MESSAGE, DataError, DataIssues, printable
from mmdistill.toolkit.datasets import Split
from mmdistill.toolkit.datasets.checks import check_pairs
from mmdistill.toolkit.evaluation.curve_file import CURVES, save_curves
from mmdistill.toolkit.evaluation.exporters import export_folder, export_results
from mmdistill.toolkit.evaluation.metrics import BenchmarkScores, Scores, save_scores, score_sequences, truths_of
from mmdistill.toolkit.evaluation.plots import PlotFormat, check_formats, plot_curves
from mmdistill.toolkit.evaluation.protocols import RULES
from mmdistill.toolkit.evaluation.results import read_results_for
from mmdistill.toolkit.evaluation.runner import run_benchmark
from mmdistill.toolkit.evaluation.tables import format_table
from mmdistill.toolkit.images import MaxPixels, set_max_pixels
from mmdistill.toolkit.ranges import Count, Range, Seed
from mmdistill.toolkit.report.cost import COST, save_cost
from mmdistill.toolkit.report.markup import several
from mmdistill.toolkit.run_control import run_lock
from mmdistill.toolkit.video import OnBroken


def evaluate(
    benchmark: BenchmarkChoice | Literal["pairs"],
    annotations: Path | None = None,
    results: Path | None = None,
    root: Path | None = None,
    rgb: Path | None = None,
    tir: Path | None = None,
    side_by_side: bool = False,
    weights: Path | None = None,
    out: Path | None = None,
    json: Path | None = None,
    tracker: str | None = None,
    export: Path | None = None,
    per_sequence: bool = False,
    plot_format: tuple[PlotFormat, ...] = ("png",),
    check: bool = False,
    check_images: bool = False,
    split: Split = "test",
    modality: Literal["rgb", "tir"] = "rgb",
    attribute_names: tuple[str, ...] = (),
    whole_pixels: bool = False,
    together: Annotated[int, Range(1, 10_000)] = 8,
    workers: Annotated[int, Range(1, 1024)] = 1,
    on_broken: OnBroken = "stop",
    unusable: Unusable = "stop",
    partial: bool = False,
    count: Count = 20,
    seed: Seed = 1_000_000,
    max_pixels: MaxPixels | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> None:
    """Score a tracker on a benchmark by the benchmark's own rule: PR, NPR and SR, overall and by attribute.

    Any tracker's raw result files against annotations; no images needed:

      mmdistill evaluate --benchmark lasher --annotations LasHeR/annos --results RESULTS/mfDiMP --json scores.json

    Our tracker over a benchmark; the same command again goes on where it was interrupted:

      mmdistill evaluate --benchmark rgbt234 --root RGBT234 --weights network.safetensors --out scored

    What is missing or odd in a copy, and how many of its sequences can be used:

      mmdistill evaluate --benchmark gtot --root GTOT --check
      mmdistill evaluate --benchmark pairs --root KAIST --check

    Args:
        benchmark: vot: a folder of VOT- or OTB-style sequences. synthetic: seeded video that needs no
            download. pairs: images without labels, which can only be checked.
        annotations: folder of the ground truth: sequence folders, or <sequence>.txt files.
        results: folder of raw result files, <sequence>.txt or <tracker>_<sequence>.txt: 4 columns x,y,w,h or 8 of
            corners, separated by commas, tabs or spaces. VOT's raw results and .mat files are read too.
        root: folder of the benchmark, images and all; a run takes its ground truth from there too.
        rgb: folder of RGB images to check as pairs, with --tir in place of --root.
        tir: folder of TIR images to check as pairs.
        side_by_side: check every image of --root as a pair, RGB in the left half, TIR in the right.
        weights: a trained network.safetensors.
        out: folder for results, scores.json, curves.json, speed.json, cost.json and plots.
        json: file for the scores.
        tracker: the tracker's name in plots and exported results; by default the folder's of the results, or mmdistill.
        export: folder for the results in the form that the benchmark's own toolkit reads.
        per_sequence: print the scores of every sequence too; --json and --out always have them.
        plot_format: png, svg, pdf, or several of them, for the plots in --out: --plot-format png svg.
        check: list what is missing or odd in --root, or in --annotations; exit status 1 if a sequence can't be used.
        check_images: the same, and decode every image.
        split: which part of LasHeR: test (245 sequences), train (979) or all (1,224), by the official list of names.
        modality: what the images of single-modality vot sequences are.
        attribute_names: names of LSOTB-TIR's or PTB-TIR's attributes, in the order of their flags.
        whole_pixels: round predicted boxes to whole pixels first; some published GTOT figures did.
        together: how many videos are tracked at once; the boxes are the same, a GPU is better used.
        workers: how many processes track a video each, on the CPU; the boxes are the same.
        on_broken: stop: an image that can't be read ends the run. skip: its frame keeps the last box.
        unusable: stop: a sequence that can't be used ends the command. skip: it is left out, which the output says.
        partial: score what is there of a benchmark's sequences and of the results. The first line of the output says
            how many these are. Without it missing ones are an error.
        max_pixels: pixels of the largest image that is read (default 100,000,000, or MMDISTILL_MAX_PIXELS).
        count: how many synthetic sequences.
        seed: of the synthetic sequences; far from the seeds one trains on.
        device: cpu, cuda, or auto.
        quiet: show no progress.
    """
    if max_pixels is not None:
        set_max_pixels(max_pixels)
    if benchmark == "pairs":
        if (root is None and rgb is None and tir is None) or not (check or check_images):
            raise DataError("--benchmark: pairs have no labels to score by; they can be checked, --root and --check")
        checked = check_pairs(root, rgb=rgb, tir=tir, side_by_side=side_by_side, decode=check_images)
        print_checked(checked, root or f"{rgb} and {tir}", "pairs")
        return
    if rgb is not None or tir is not None or side_by_side:
        raise DataError("--rgb, --tir, --side-by-side: are for --benchmark pairs")
    source = BenchmarkSource(
        benchmark, annotations, root, split, modality, attribute_names, unusable, partial, count, seed
    )
    if check or check_images:
        source.check(decode=check_images)
        return
    if weights is not None and out is None:
        raise DataError("--out: expected a folder for the results of running --weights")
    if (weights is None) == (results is None):
        raise DataError("evaluate: give either --results (score files) or --weights and --out (run and score)")
    check_formats(plot_format)
    name = tracker or ("mmdistill" if results is None else results.resolve().name)
    if export is not None:
        export_folder(export, name)  # refused before anything is run
    data_issues = DataIssues()
    rule = replace(RULES[benchmark], round_predictions=whole_pixels)
    if weights is not None and out is not None:
        run, how = choose_run(weights, device, together, workers, on_broken)
        sequences, coverage = source.sequences(data_issues, images=True)
        with run_lock(out):
            claim(out, weights, source.title)
            print(coverage.summary)
            save_cost(out / COST, read_cost(weights))
            boxes = run_benchmark(run, sequences, out / RESULTS, how=how, progress=not quiet)
        report_speed(out, list(boxes))
    else:
        assert results is not None
        sequences, coverage = source.sequences(data_issues, images=False, results=results)
        print(coverage.summary)
        boxes = read_results_for(results, {each.name: truths_of(each) for each in sequences}, data_issues=data_issues)
    scores = score_sequences(boxes, sequences, rule)
    if out is not None:
        plot_curves({name: scores}, out, formats=plot_format)
        save_scores(out / "scores.json", scores, coverage)
        save_curves(out / CURVES, scores)
    if json is not None:
        save_scores(json, scores, coverage)
    print("\n\n".join([*score_tables(scores, per_sequence=per_sequence), f"{benchmark}: {rule.description}"]))
    print_data_issues(data_issues)
    if export is not None:
        print(printable(export_results(export, boxes, benchmark, name)))


def score_tables(scores: BenchmarkScores, *, per_sequence: bool) -> list[str]:
    """Return plain-text tables: the overall scores, those by attribute if there are any, those by sequence if wanted.

    Attributes and sequences stand with the lowest SR first.
    """
    counted = f"{several(len(scores.sequences), 'sequence')}, {several(scores.overall.frames, 'frame')}"
    tables = [_table("overall", {counted: scores.overall})]
    if scores.attributes:
        counts = {name: f"{name} ({len(scores.having[name])})" for name in scores.attributes}
        tables.append(_table("attribute (sequences)", {counts[name]: each for name, each in scores.attributes.items()}))
    if per_sequence:
        tables.append(_table("sequence", scores.sequences))
    return tables


def _table(title: str, named: Mapping[str, Scores]) -> str:
    worst_first = sorted(named.items(), key=lambda each: each[1].SR)
    return format_table(
        [title, "PR", "NPR", "SR"],
        [[printable(name, MAX_MESSAGE), each.PR, each.NPR, each.SR] for name, each in worst_first],
    )
