"""The contents of a report: trackers' results and ground truth, read and scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.data_issues import DataError, DataIssues, join_names
from mmdistill.toolkit.datasets import BenchmarkName, Coverage, open_usable
from mmdistill.toolkit.evaluation.efficiency import Cost, read_speed
from mmdistill.toolkit.evaluation.metrics import ground_truth_of, prepare_predictions, score_benchmark
from mmdistill.toolkit.evaluation.protocols import ScoringProtocol
from mmdistill.toolkit.evaluation.results import describe_folder, read_benchmark_results, sequences_with_results
from mmdistill.toolkit.evaluation.scores import CURVES_FILE, BenchmarkScores, aggregate, read_curves
from mmdistill.toolkit.sequence import Boxes, FramePair, TrackingSequence


@dataclass(frozen=True)
class GroundTruth:
    """A sequence's ground truth.

    Attributes:
        boxes: one array ``(T, 4)``; two, of RGB and TIR, if the protocol takes the better of both.
        attributes: flags by attribute: one per frame, or one for the sequence.
        frame: function that returns the images of frame ``index``, from 0; None without images.
    """

    boxes: tuple[Boxes, ...]
    attributes: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    frame: Callable[[int], FramePair] | None = None


@dataclass(frozen=True)
class ComparedTracker:
    """One of the trackers in a report.

    Attributes:
        name: unique name.
        scores: scores on the sequences for which all trackers have results.
        boxes: predicted boxes ``(T, 4)`` as the protocol counts them, by sequence; empty if only curves were read.
        missing: names of sequences without a result of this tracker.
        cost: the network's cost, or None if it is unknown.
        frames_per_second: the tracker's speed, or None if it is unknown.
        data_issues: data issues of the results.
    """

    name: str
    scores: BenchmarkScores
    boxes: Mapping[str, Boxes] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    cost: Cost | None = None
    frames_per_second: float | None = None
    data_issues: DataIssues = field(default_factory=DataIssues)


@dataclass(frozen=True)
class Contents:
    """The contents of a report.

    Attributes:
        trackers: the trackers; their order decides their colors.
        ground_truth: ground truth by sequence; empty if only curves were read.
        total: number of sequences, including those without results of some trackers.
        data_issues: data issues of the ground truth.
    """

    trackers: tuple[ComparedTracker, ...]
    ground_truth: Mapping[str, GroundTruth]
    total: int
    data_issues: DataIssues = field(default_factory=DataIssues)

    @property
    def protocol(self) -> ScoringProtocol:
        """The scoring protocol of all trackers."""
        return self.trackers[0].scores.protocol

    @property
    def sequences(self) -> tuple[str, ...]:
        """Names of the compared sequences."""
        return tuple(self.trackers[0].scores.sequences)


def collect_ground_truth(sequences: Iterable[TrackingSequence], *, images: bool) -> dict[str, GroundTruth]:
    """Return the ground truth of sequences by name; frames are read when they are used.

    Args:
        sequences: the sequences; empty ones are left out.
        images: whether the sequences have images.
    """
    return {
        each.name: GroundTruth(ground_truth_of(each), each.attributes, each.frame if images else None)
        for each in sequences
        if len(each)
    }


def read_ground_truth(
    benchmark: BenchmarkName, annotations: Path | None, root: Path | None, data_issues: DataIssues, **options: Any
) -> tuple[dict[str, GroundTruth], Coverage]:
    """Read a benchmark's ground truth from a folder of annotations, a folder with images, or both.

    Args:
        benchmark: name of the benchmark.
        annotations: folder of annotations.
        root: folder with images; its annotations are used if ``annotations`` is None.
        data_issues: receives the data issues.
        options: further arguments of ``open_usable``.

    Returns:
        The ground truth by sequence name, and the benchmark's coverage.

    Raises:
        DataError: a folder or file is missing or malformed, or no sequence is usable.
    """
    ground_truth: dict[str, GroundTruth] = {}
    coverage = Coverage(benchmark, 0)
    for folder, images in ((root, True), (annotations, False)):
        if folder is None:
            continue
        opened = open_usable(benchmark, folder, data_issues, images=images, **options)
        coverage = opened.coverage
        with_images, ground_truth = ground_truth, collect_ground_truth(opened.sequences, images=images)
        ground_truth = {name: _add_images(each, with_images.get(name)) for name, each in ground_truth.items()}
    return ground_truth, coverage


def _add_images(ground_truth: GroundTruth, with_images: GroundTruth | None) -> GroundTruth:
    if with_images is None:
        return ground_truth
    attributes = ground_truth.attributes or with_images.attributes
    return replace(ground_truth, attributes=attributes, frame=with_images.frame)


def name_folders(arguments: Sequence[str]) -> dict[str, Path]:
    """Return the trackers' folders by name.

    Args:
        arguments: ``DIR``, whose name is the tracker's name, or ``NAME=DIR``.

    Raises:
        DataError: there is no folder, a folder does not exist, or a name is used twice.
    """
    if not arguments:
        raise DataError("report: expected a folder for each tracker, got none")
    folders: dict[str, Path] = {}
    for each in arguments:
        before, equals, after = each.partition("=")
        named = bool(equals) and not Path(each).is_dir()
        folder = Path(after if named else each)
        if not folder.is_dir():
            raise DataError(f"{folder}: expected a tracker's folder, there is none")
        name = before if named else folder.resolve().name
        if not name or name in folders:
            reason = f"two trackers are named {name!r}" if name else "the tracker has no name"
            raise DataError(f"{each}: {reason}; name it with NAME={folder}")
        folders[name] = folder
    return folders


def collect_scored(folders: Mapping[str, Path], costs: Mapping[str, Cost]) -> Contents:
    """Read the curves that ``mmdistill score --out`` or ``evaluate`` wrote; no ground truth is needed.

    Args:
        folders: the trackers' folders by name.
        costs: costs of the known networks by tracker name.

    Raises:
        DataError: a folder has no curves, curves have different protocols, or no sequence is in all of them.
    """
    scores: dict[str, BenchmarkScores] = {}
    for name, folder in folders.items():
        if not (folder / CURVES_FILE).exists():
            hint = "to score raw results, give --benchmark and --annotations"
            raise DataError(f"{folder}: has no {CURVES_FILE}, as `mmdistill score --out` writes it; {hint}")
        scores[name] = read_curves(folder / CURVES_FILE)
        first = next(iter(folders))
        if scores[name].protocol != scores[first].protocol:
            raise DataError(f"{folder}: scored by another protocol than {folders[first]}; score both by one")
    names = list(dict.fromkeys(sequence for each in scores.values() for sequence in each.sequences))
    common = _common(names, {name: each.sequences for name, each in scores.items()})
    for sequence in common:
        frames = {each.sequences[sequence].frames for each in scores.values()}
        if len(frames) > 1:
            counts = join_names(map(str, frames))
            raise DataError(f"{sequence}: the trackers were scored on different numbers of frames: {counts}")
    trackers = [
        ComparedTracker(
            name,
            aggregate(
                {sequence: each.sequences[sequence] for sequence in common}, each.attribute_sequences, each.protocol
            ),
            missing=_missing(names, each.sequences),
            cost=costs.get(name),
            frames_per_second=_frames_per_second(_results_folder(folders[name]), common),
        )
        for name, each in scores.items()
    ]
    return Contents(tuple(trackers), {}, len(names))


def collect_raw(
    folders: Mapping[str, Path],
    ground_truth: Mapping[str, GroundTruth],
    protocol: ScoringProtocol,
    costs: Mapping[str, Cost],
    data_issues: DataIssues | None = None,
    others: Iterable[str] = (),
) -> Contents:
    """Score trackers' raw result files on the sequences for which all trackers have a result.

    Args:
        folders: the trackers' folders by name; the results may be in a subfolder ``results``.
        ground_truth: ground truth of all sequences.
        protocol: how the benchmark is scored.
        costs: costs of the known networks by tracker name.
        data_issues: data issues of the ground truth.
        others: names of sequences that are not compared but may have results.

    Raises:
        DataError: no sequence has results of all trackers, or a result can't be read or scored.
    """
    names = list(ground_truth)
    results = {name: _results_folder(folder) for name, folder in folders.items()}
    present = {name: sequences_with_results(folder, names, others) for name, folder in results.items()}
    for name, sequences in present.items():
        if not sequences:
            raise DataError(
                f"{results[name]}: no result for any of {len(names)} sequences, such as {names[0]}.txt"
                f"{describe_folder(results[name], names)}"
            )
    common = {name: ground_truth[name] for name in _common(names, present)}
    trackers = []
    for name, folder in results.items():
        issues = DataIssues()
        boxes = read_benchmark_results(
            folder, {each: ground_truth[each].boxes for each in present[name]}, data_issues=issues
        )
        tracker = ComparedTracker(
            name,
            score_benchmark(
                boxes,
                {each: truth.boxes for each, truth in common.items()},
                protocol,
                attributes={each: truth.attributes for each, truth in common.items()},
            ),
            boxes={each: prepare_predictions(boxes[each], truth.boxes[0], protocol) for each, truth in common.items()},
            missing=_missing(names, present[name]),
            cost=costs.get(name),
            frames_per_second=_frames_per_second(folder, common),
            data_issues=issues,
        )
        trackers.append(tracker)
    return Contents(tuple(trackers), common, len(names), DataIssues() if data_issues is None else data_issues)


def _results_folder(folder: Path) -> Path:
    return folder / "results" if (folder / "results").is_dir() else folder


def _frames_per_second(folder: Path, sequences: Iterable[str]) -> float | None:
    speed = read_speed(folder, sequences)
    return None if speed is None else speed.frames_per_second


def _common(names: Sequence[str], present: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names that are present for all trackers."""
    common = set(names).intersection(*present.values())
    if not common:
        counts = ", ".join(f"{tracker} {len(list(sequences))}" for tracker, sequences in present.items())
        raise DataError(f"report: no sequence has results of all trackers ({counts} of {len(names)})")
    return [name for name in names if name in common]


def _missing(names: Iterable[str], present: Iterable[str]) -> tuple[str, ...]:
    known = frozenset(present)
    return tuple(name for name in names if name not in known)
