"""``mmdistill evaluate``: score raw result files, or run our tracker over a benchmark and score it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mmdistill.reference.data.folders import read_ground_truth, read_sequences
from mmdistill.reference.data.frames import OnBroken
from mmdistill.reference.data.sequence import TrackingSequence
from mmdistill.reference.data.synthetic import synthetic_sequences
from mmdistill.reference.device import choose_device
from mmdistill.reference.errors import DataError
from mmdistill.reference.evaluation.curve_file import CURVES, save_curves
from mmdistill.reference.evaluation.plots import plot_curves
from mmdistill.reference.evaluation.results import read_results
from mmdistill.reference.evaluation.rules import RULES
from mmdistill.reference.evaluation.run import Run, run_benchmark
from mmdistill.reference.evaluation.scoring import BenchmarkScores, save_scores, score_benchmark, score_sequences
from mmdistill.reference.evaluation.table import format_table
from mmdistill.reference.files import write_text
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.networks.weights import load_network
from mmdistill.reference.tracking.track_batch import each_tracked


def evaluate(
    benchmark: Literal["vot", "synthetic"],
    annotations: Path | None = None,
    results: Path | None = None,
    root: Path | None = None,
    weights: Path | None = None,
    out: Path | None = None,
    json: Path | None = None,
    modality: Literal["rgb", "tir"] = "rgb",
    together: int = 8,
    on_broken: OnBroken = "stop",
    count: int = 20,
    seed: int = 1_000_000,
    device: str = "auto",
) -> None:
    """Score a tracker: PR, NPR and SR per sequence and overall.

    Any tracker's raw result files (<sequence>.txt, x,y,w,h a line) against annotations:

      mmdistill evaluate --benchmark vot --annotations SEQUENCES --results RESULTS --json scores.json

    Our tracker over a folder of VOT- or OTB-style sequences, or over synthetic video; goes on if interrupted:

      mmdistill evaluate --benchmark vot --root SEQUENCES --weights network.safetensors --out scored

    Args:
        benchmark: vot: a folder of sequences. synthetic: seeded video that needs no download.
        annotations: folder of the ground truth: sequence folders, or <sequence>.txt files; no images needed.
        results: folder of raw result files.
        root: folder of the sequences.
        weights: a trained network.safetensors.
        out: folder for results, scores, curves and plots.
        json: file for the scores.
        modality: what the images of single-modality sequences are.
        on_broken: stop: an image that can't be read ends the run. skip: its frame keeps the last box.
        together: how many videos are tracked at once; the boxes are the same, a GPU is better used.
        count: how many synthetic sequences.
        seed: of the synthetic sequences; far from the seeds one trains on.
        device: cpu, cuda, or auto.
    """
    if weights is not None and out is None:
        raise DataError("--out: expected a folder for the results of running --weights")
    if (weights is None) == (results is None):
        raise DataError("evaluate: give either --results (score files) or --weights and --out (run and score)")
    if weights is not None and out is not None:
        if together < 1:
            raise DataError(f"--together: expected at least 1, got {together}")
        network = load_network(weights).to(choose_device(device))
        _claim(out, weights)
        sequences = _sequences(benchmark, root, modality, count, seed)
        boxes = run_benchmark(_run(network, together, on_broken), sequences, out / "results")
        scores = score_sequences(boxes, sequences, RULES[benchmark])
    else:
        assert results is not None
        scores = _score_files(benchmark, annotations or root, results, count, seed)
    if out is not None:
        plot_curves({"mmdistill": scores}, out)
        save_scores(out / "scores.json", scores)
        save_curves(out / CURVES, scores)
    if json is not None:
        save_scores(json, scores)
    print(score_table(scores))


def _run(network: TrackerNetwork, together: int, on_broken: OnBroken) -> Run:
    return lambda sequences, after_frame: each_tracked(
        network, sequences, together=together, on_broken=on_broken, after_frame=after_frame
    )


def score_table(scores: BenchmarkScores) -> str:
    """Return the scores per sequence and overall as a plain-text table."""
    named = {**scores.sequences, "overall": scores.overall}
    rows: list[list[str | float]] = [[name, each.PR, each.NPR, each.SR] for name, each in named.items()]
    return format_table(["sequence", "PR", "NPR", "SR"], rows)


def _claim(out: Path, weights: Path) -> None:
    """Mark a folder as holding these weights' results, because a later run goes on from what it finds there.

    Raises:
        DataError: it holds the results of other weights.
    """
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    mark = out / "results" / "weights.sha256"
    if mark.exists() and mark.read_text().split()[0] != digest:
        raise DataError(f"{out}: holds the results of other weights; give another --out, or remove it")
    write_text(mark, f"{digest}  {weights}\n")


def _score_files(benchmark: str, annotations: Path | None, results: Path, count: int, seed: int) -> BenchmarkScores:
    if benchmark == "synthetic":
        sequences = synthetic_sequences(count, seed=seed)
        predicted = read_results(results, {sequence.name: len(sequence) for sequence in sequences})
        return score_sequences(predicted, sequences, RULES[benchmark])
    if annotations is None:
        raise DataError("--annotations: expected the folder of the ground truth")
    truths = read_ground_truth(annotations)
    predicted = read_results(results, {name: len(boxes) for name, boxes in truths.items()})
    return score_benchmark(predicted, {name: (boxes,) for name, boxes in truths.items()}, RULES[benchmark])


def _sequences(
    benchmark: str, root: Path | None, modality: Literal["rgb", "tir"], count: int, seed: int
) -> Sequence[TrackingSequence]:
    if benchmark == "synthetic":
        return synthetic_sequences(count, seed=seed)
    if root is None:
        raise DataError("--root: expected the folder of the sequences")
    return read_sequences(root, modality=modality)
