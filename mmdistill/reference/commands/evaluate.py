"""``mmdistill evaluate``: score raw result files, run our tracker over a benchmark and score it, or check a copy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from mmdistill.reference.commands.benchmark_run import RESULTS, choose_run, claim, report_speed
from mmdistill.reference.commands.benchmark_source import BenchmarkChoice, BenchmarkSource, Unusable, print_checked
from mmdistill.reference.commands.odd_lines import print_oddities
from mmdistill.reference.data.benchmarks.lasher import Split
from mmdistill.reference.data.frames import OnBroken
from mmdistill.reference.data.pairs.checking import check_pairs
from mmdistill.reference.errors import DataError
from mmdistill.reference.evaluation.curve_file import CURVES, save_curves
from mmdistill.reference.evaluation.plots import plot_curves
from mmdistill.reference.evaluation.results import read_results_for
from mmdistill.reference.evaluation.rules import RULES
from mmdistill.reference.evaluation.run import run_benchmark
from mmdistill.reference.evaluation.scores import BenchmarkScores, save_scores
from mmdistill.reference.evaluation.scoring import score_sequences, truths_of
from mmdistill.reference.evaluation.table import format_table
from mmdistill.reference.evaluation.toolkits import export_folder, export_results
from mmdistill.reference.interruption import terminable
from mmdistill.reference.oddities import Oddities
from mmdistill.reference.ranges import Count, Range, Seed
from mmdistill.reference.run_lock import run_lock


def evaluate(
    benchmark: BenchmarkChoice | Literal["pairs"],
    annotations: Path | None = None,
    results: Path | None = None,
    root: Path | None = None,
    weights: Path | None = None,
    out: Path | None = None,
    json: Path | None = None,
    tracker: str | None = None,
    export: Path | None = None,
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
    count: Count = 20,
    seed: Seed = 1_000_000,
    device: str = "auto",
) -> None:
    """Score a tracker on a benchmark by the benchmark's own rule: PR, NPR and SR, per sequence and overall.

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
            corners, separated by commas, tabs or spaces.
        root: folder of the benchmark, images and all; a run takes its ground truth from there too.
        weights: a trained network.safetensors.
        out: folder for results, scores.json, curves.json, speed.json and plots.
        json: file for the scores.
        tracker: the tracker's name in plots and exported results; by default the folder's of the results, or mmdistill.
        export: folder for the results in the form that the benchmark's own toolkit reads.
        check: list what is missing or odd in --root, or in --annotations; exit status 1 if a sequence can't be used.
        check_images: the same, and decode every image.
        split: which part of LasHeR.
        modality: what the images of single-modality vot sequences are.
        attribute_names: names of LSOTB-TIR's or PTB-TIR's attributes, in the order of their flags.
        whole_pixels: round predicted boxes to whole pixels first; some published GTOT figures did.
        together: how many videos are tracked at once; the boxes are the same, a GPU is better used.
        workers: how many processes track a video each, on the CPU; the boxes are the same.
        on_broken: stop: an image that can't be read ends the run. skip: its frame keeps the last box.
        unusable: stop: a sequence that can't be used ends the command. skip: it is left out, which the output says.
        count: how many synthetic sequences.
        seed: of the synthetic sequences; far from the seeds one trains on.
        device: cpu, cuda, or auto.
    """
    if benchmark == "pairs":
        if root is None or not (check or check_images):
            raise DataError("--benchmark: pairs have no labels to score by; they can be checked, --root and --check")
        print_checked(check_pairs(root, decode=check_images), root, "pairs")
        return
    source = BenchmarkSource(benchmark, annotations, root, split, modality, attribute_names, unusable, count, seed)
    if check or check_images:
        source.check(decode=check_images)
        return
    if weights is not None and out is None:
        raise DataError("--out: expected a folder for the results of running --weights")
    if (weights is None) == (results is None):
        raise DataError("evaluate: give either --results (score files) or --weights and --out (run and score)")
    name = tracker or ("mmdistill" if results is None else results.resolve().name)
    if export is not None:
        export_folder(export, name)  # refused before anything is run
    oddities = Oddities()
    rule = replace(RULES[benchmark], round_predictions=whole_pixels)
    if weights is not None and out is not None:
        run, how = choose_run(weights, device, together, workers, on_broken)
        sequences = source.sequences(oddities, images=True)
        with run_lock(out), terminable():
            claim(out, weights, source.title)
            boxes = run_benchmark(run, sequences, out / RESULTS, how=how)
        report_speed(out, list(boxes))
    else:
        assert results is not None
        sequences = source.sequences(oddities, images=False)
        boxes = read_results_for(results, {each.name: truths_of(each) for each in sequences}, oddities=oddities)
    scores = score_sequences(boxes, sequences, rule)
    if out is not None:
        plot_curves({name: scores}, out)
        save_scores(out / "scores.json", scores)
        save_curves(out / CURVES, scores)
    if json is not None:
        save_scores(json, scores)
    print(score_table(scores))
    print(f"\n{benchmark}: {rule.description}")
    print_oddities(oddities)
    if export is not None:
        print(export_results(export, boxes, benchmark, name))


def score_table(scores: BenchmarkScores) -> str:
    """Return the scores per sequence and overall as a plain-text table."""
    named = {**scores.sequences, "overall": scores.overall}
    rows: list[list[str | float]] = [[name, each.PR, each.NPR, each.SR] for name, each in named.items()]
    return format_table(["sequence", "PR", "NPR", "SR"], rows)
