"""``mmdistill evaluate``: score raw result files, run our tracker over a benchmark and score it, or check a copy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch

from mmdistill.reference.data.benchmarks import BenchmarkName, open_benchmark
from mmdistill.reference.data.benchmarks.checking import check_benchmark
from mmdistill.reference.data.benchmarks.lasher import Split
from mmdistill.reference.data.frames import OnBroken
from mmdistill.reference.data.sequence import Boxes, TrackingSequence
from mmdistill.reference.data.synthetic import synthetic_sequences
from mmdistill.reference.device import choose_device
from mmdistill.reference.errors import DataError
from mmdistill.reference.evaluation.curve_file import CURVES, save_curves
from mmdistill.reference.evaluation.plots import plot_curves
from mmdistill.reference.evaluation.processes import in_processes
from mmdistill.reference.evaluation.results import read_results
from mmdistill.reference.evaluation.rules import RULES
from mmdistill.reference.evaluation.run import Run, run_benchmark
from mmdistill.reference.evaluation.scoring import BenchmarkScores, save_scores, score_sequences, truths_of
from mmdistill.reference.evaluation.speed import read_speed
from mmdistill.reference.evaluation.table import format_table
from mmdistill.reference.evaluation.toolkits import export_results
from mmdistill.reference.files import write_text
from mmdistill.reference.interruption import terminable
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.networks.weights import load_network
from mmdistill.reference.oddities import Oddities
from mmdistill.reference.tracking.track_batch import each_tracked

SHOWN = 5
"""How many oddities of a kind are shown beside scores; ``--check`` shows all."""


def evaluate(
    benchmark: Literal["gtot", "rgbt210", "rgbt234", "lasher", "vtuav", "lsotb-tir", "ptb-tir", "vot", "synthetic"],
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
    together: int = 8,
    workers: int = 1,
    on_broken: OnBroken = "stop",
    unusable: Literal["stop", "skip"] = "stop",
    count: int = 20,
    seed: int = 1_000_000,
    device: str = "auto",
) -> None:
    """Score a tracker on a benchmark by the benchmark's own rule: PR, NPR and SR, per sequence and overall.

    Any tracker's raw result files against annotations; no images needed:

      mmdistill evaluate --benchmark lasher --annotations LasHeR/annos --results RESULTS/mfDiMP --json scores.json

    Our tracker over a benchmark; the same command again goes on where it was interrupted:

      mmdistill evaluate --benchmark rgbt234 --root RGBT234 --weights network.safetensors --out scored

    What is missing or odd in a copy, and how many of its sequences can be used:

      mmdistill evaluate --benchmark gtot --root GTOT --check

    Args:
        benchmark: vot: a folder of VOT- or OTB-style sequences. synthetic: seeded video that needs no download.
        annotations: folder of the ground truth: sequence folders, or <sequence>.txt files.
        results: folder of raw result files, <sequence>.txt or <tracker>_<sequence>.txt: 4 columns x,y,w,h or 8 of
            corners, separated by commas, tabs or spaces.
        root: folder of the benchmark, images and all.
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
    source = _Source(benchmark, annotations, root, split, modality, attribute_names, unusable, count, seed)
    if check or check_images:
        source.check(decode=check_images)
        return
    if weights is not None and out is None:
        raise DataError("--out: expected a folder for the results of running --weights")
    if (weights is None) == (results is None):
        raise DataError("evaluate: give either --results (score files) or --weights and --out (run and score)")
    oddities = Oddities()
    rule = replace(RULES[benchmark], round_predictions=whole_pixels)
    if weights is not None and out is not None:
        name = tracker or "mmdistill"
        run, how = _runner(weights, device, together, workers, on_broken)
        sequences = source.sequences(oddities, images=True)
        _claim(out, weights)
        with terminable():
            boxes = run_benchmark(run, sequences, out / "results")
        _report_speed(out, list(boxes), how)
    else:
        assert results is not None
        name = tracker or results.resolve().name
        sequences = source.sequences(oddities, images=False)
        boxes = _read(results, sequences, oddities)
    scores = score_sequences(boxes, sequences, rule)
    if out is not None:
        plot_curves({name: scores}, out)
        save_scores(out / "scores.json", scores)
        save_curves(out / CURVES, scores)
    if json is not None:
        save_scores(json, scores)
    print(score_table(scores))
    print(f"\n{benchmark}: {rule.description}")
    print_oddities(oddities, SHOWN)
    if export is not None:
        print(export_results(export, boxes, benchmark, name))


def score_table(scores: BenchmarkScores) -> str:
    """Return the scores per sequence and overall as a plain-text table."""
    named = {**scores.sequences, "overall": scores.overall}
    rows: list[list[str | float]] = [[name, each.PR, each.NPR, each.SR] for name, each in named.items()]
    return format_table(["sequence", "PR", "NPR", "SR"], rows)


@dataclass(frozen=True)
class _Source:
    """Where the sequences are from, as the command's arguments say it."""

    benchmark: str
    annotations: Path | None
    root: Path | None
    split: Split
    modality: Literal["rgb", "tir"]
    attribute_names: tuple[str, ...]
    unusable: Literal["stop", "skip"]
    count: int
    seed: int

    def sequences(self, oddities: Oddities, *, images: bool) -> Sequence[TrackingSequence]:
        """Return the sequences, with or without images, and note what is odd about them."""
        if self.benchmark == "synthetic":
            return synthetic_sequences(self.count, seed=self.seed)
        opened = open_benchmark(
            self._name, self._folder(images), images=images, unusable=self.unusable, **self._options()
        )
        oddities.extend(opened.oddities)
        if not opened.sequences:
            raise DataError(f"{opened.place}: none of {len(opened.files)} sequences can be used; --check lists why")
        return opened.sequences

    def check(self, *, decode: bool) -> None:
        """Print what is missing or odd.

        Raises:
            DataError: a sequence can't be used.
        """
        if self.benchmark == "synthetic":
            raise DataError("--check: there is nothing on disk to check of synthetic sequences")
        images = self.annotations is None
        folder = self._folder(images)
        checked = check_benchmark(self._name, folder, images=images, decode=decode, **self._options())
        print_oddities(checked.oddities, None)
        print(f"{folder}: {checked.usable} of {checked.sequences} sequences can be used")
        if checked.usable < checked.sequences:
            raise DataError(f"{folder}: {checked.sequences - checked.usable} sequences can't be used, as listed")

    @property
    def _name(self) -> BenchmarkName:
        return cast(BenchmarkName, self.benchmark)

    def _folder(self, images: bool) -> Path:
        folder = self.root if images else self.annotations or self.root
        if folder is None:
            wanted = "--root: expected the folder of the sequences"
            raise DataError(wanted if images else "--annotations: expected the folder of the ground truth")
        return folder

    def _options(self) -> dict[str, Any]:
        return {"modality": self.modality, "split": self.split, "attribute_names": self.attribute_names}


def _read(results: Path, sequences: Sequence[TrackingSequence], oddities: Oddities) -> dict[str, Boxes]:
    frames = {sequence.name: len(sequence) for sequence in sequences}
    labelled = {each.name: np.any([np.isfinite(t).all(axis=1) for t in truths_of(each)], axis=0) for each in sequences}
    return read_results(results, frames, labelled=labelled, oddities=oddities)


def _runner(weights: Path, device: str, together: int, workers: int, on_broken: OnBroken) -> tuple[Run, str]:
    """Return what tracks, and how it does in words."""
    for name, value in (("together", together), ("workers", workers)):
        if value < 1:
            raise DataError(f"--{name}: expected at least 1, got {value}")
    place = choose_device(device)
    network = load_network(weights)
    if workers == 1:
        threads = f", {torch.get_num_threads()} threads" if place.type == "cpu" else ""
        return _together(network.to(place), together, on_broken), f"{place}{threads}, up to {together} videos at once"
    if place.type != "cpu":
        raise DataError(f"--workers: is for the CPU, not for {place}; use --together, or --device cpu")
    threads_each = max(1, (os.cpu_count() or 1) // workers)
    how = f"cpu, {threads_each} threads, timed per video while {workers} processes ran side by side"
    return in_processes(partial(_alone, weights, threads_each, on_broken), workers), how


def _together(network: TrackerNetwork, together: int, on_broken: OnBroken) -> Run:
    return lambda sequences, after_frame: each_tracked(
        network, sequences, together=together, on_broken=on_broken, after_frame=after_frame
    )


def _alone(weights: Path, threads: int, on_broken: OnBroken) -> Run:
    """Return what tracks one video at a time in a process of its own."""
    torch.set_num_threads(threads)
    return _together(load_network(weights), 1, on_broken)


def _report_speed(out: Path, names: Sequence[str], how: str) -> None:
    speed = read_speed(out / "results", names)
    if speed is None:
        return
    write_text(out / "speed.json", speed.as_json(how))
    print(
        f"{speed.frames_per_second:.1f} frames per second ({speed.with_first_frames:.1f} with the first frames): "
        f"the tracker alone, without reading images; {how}\n"
    )


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


def print_oddities(oddities: Oddities, most: int | None, *, whose: str | None = None) -> None:
    """Print what was odd, at most so many details of a kind, or nothing where nothing was."""
    lines = oddities.lines(most)
    if lines:
        print(f"\nOdd{f' in {whose}' if whose else ''}, and what is made of it:")
        print("\n".join(f"  {line}" for line in lines))
