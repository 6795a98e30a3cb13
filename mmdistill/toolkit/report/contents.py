"""What a report is made of, read and scored, before anything of it is drawn.

The ground truth of a benchmark for a report: boxes, attributes and, where they are at hand, images.

From trackers' folders to the contents of a report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.data_issues import DataError, DataIssues, join_names
from mmdistill.toolkit.datasets import BenchmarkName, Coverage, open_usable
from mmdistill.toolkit.evaluation.curve_file import CURVES, read_curves
from mmdistill.toolkit.evaluation.metrics import BenchmarkScores, as_counted, gather, score_benchmark, truths_of
from mmdistill.toolkit.evaluation.protocols import Rule
from mmdistill.toolkit.evaluation.results import found_instead, read_results_for, sequences_with_results
from mmdistill.toolkit.evaluation.speed import read_speed
from mmdistill.toolkit.report.cost import Cost
from mmdistill.toolkit.sequence import Boxes, FramePair, TrackingSequence


@dataclass(frozen=True)
class Truth:
    """What is known of a sequence apart from any tracker.

    Attributes:
        boxes: the ground truth ``(T, 4)``; of RGB and of TIR where the rule takes the better of both.
        attributes: for each attribute a flag per frame, or one for the sequence.
        frame: returns the images of frame ``index``, from 0; None where there are no images.
    """

    boxes: tuple[Boxes, ...]
    attributes: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    frame: Callable[[int], FramePair] | None = None


@dataclass(frozen=True)
class Tracker:
    """One of the trackers compared.

    Attributes:
        name: unique in the report.
        scores: on the sequences that all trackers have.
        boxes: what it predicted, as its rule counts it, ``(T, 4)`` by sequence; empty where only curves were read.
        missing: the sequences that others have and it has not.
        cost: of its network, where its weights are known.
        frames_per_second: measured while it tracked; None where nobody did.
        data_issues: what was odd about its results.
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
    """All of a report.

    Attributes:
        trackers: in the order given, which decides their colors.
        truths: by sequence; empty where only curves were read.
        total: how many sequences there are, with those that not all trackers have.
        data_issues: what was odd about the ground truth.
    """

    trackers: tuple[Tracker, ...]
    truths: Mapping[str, Truth]
    total: int
    data_issues: DataIssues = field(default_factory=DataIssues)

    @property
    def rule(self) -> Rule:
        """What all trackers are scored by."""
        return self.trackers[0].scores.rule

    @property
    def sequences(self) -> tuple[str, ...]:
        """The names of the sequences that are compared."""
        return tuple(self.trackers[0].scores.sequences)


def known_of(sequences: Iterable[TrackingSequence], *, images: bool) -> dict[str, Truth]:
    """Return what is known of sequences by name; a frame is read when it is asked for."""
    return {
        each.name: Truth(truths_of(each), each.attributes, each.frame if images else None)
        for each in sequences
        if len(each)
    }


def read_part(
    benchmark: BenchmarkName, annotations: Path | None, root: Path | None, data_issues: DataIssues, **options: Any
) -> tuple[dict[str, Truth], Coverage]:
    """Read a benchmark's annotations, or all of it, or annotations here and images there.

    Args:
        benchmark: which.
        annotations: its folder of annotations, images or not.
        root: its folder with images; the annotations in it count where no others are given.
        data_issues: where is noted what is odd.
        options: as ``open_benchmark`` takes them.

    Returns:
        What is known of each sequence by name, and which part of the benchmark they are.

    Raises:
        DataError: a folder or a file is missing or malformed, or no sequence can be used.
    """
    found: dict[str, Truth] = {}
    coverage = Coverage(benchmark, 0)
    for folder, images in ((root, True), (annotations, False)):
        if folder is None:
            continue
        opened = open_usable(benchmark, folder, data_issues, images=images, **options)
        coverage = opened.coverage
        pictured, found = found, known_of(opened.sequences, images=images)
        found = {name: _with_images(truth, pictured.get(name)) for name, truth in found.items()}
    return found, coverage


def _with_images(truth: Truth, pictured: Truth | None) -> Truth:
    if pictured is None:
        return truth
    return replace(truth, attributes=truth.attributes or pictured.attributes, frame=pictured.frame)


def name_folders(given: Sequence[str]) -> dict[str, Path]:
    """Return trackers' folders by name, from ``DIR``, whose own name it then is, or ``NAME=DIR``.

    Raises:
        DataError: none, a folder that is not there, or a name that comes twice.
    """
    if not given:
        raise DataError("report: expected a folder for each tracker, got none")
    folders: dict[str, Path] = {}
    for each in given:
        before, equals, after = each.partition("=")
        named = bool(equals) and not Path(each).is_dir()
        folder = Path(after if named else each)
        if not folder.is_dir():
            raise DataError(f"{folder}: expected a tracker's folder, there is none")
        name = before if named else folder.resolve().name
        if not name or name in folders:
            why = f"two trackers are called {name!r}" if name else "the tracker has no name"
            raise DataError(f"{each}: {why}; name it as NAME={folder}")
        folders[name] = folder
    return folders


def collect_scored(folders: Mapping[str, Path], costs: Mapping[str, Cost]) -> Contents:
    """Read trackers that ``mmdistill evaluate --out`` scored: their curves, without any ground truth.

    Args:
        folders: by the trackers' names.
        costs: of those trackers whose networks are known.

    Raises:
        DataError: no curves in a folder, curves by different rules, or no sequence that all have.
    """
    scores: dict[str, BenchmarkScores] = {}
    for name, folder in folders.items():
        if not (folder / CURVES).exists():
            hint = "to score raw results give --benchmark and --annotations"
            raise DataError(f"{folder}: has no {CURVES}, as `mmdistill evaluate --out` writes it; {hint}")
        scores[name] = read_curves(folder / CURVES)
        first = next(iter(folders))
        if scores[name].rule != scores[first].rule:
            raise DataError(f"{folder}: scored by another rule than {folders[first]}; score both by one")
    every = list(dict.fromkeys(sequence for each in scores.values() for sequence in each.sequences))
    common = _common(every, {name: each.sequences for name, each in scores.items()})
    for sequence in common:
        counted = {each.sequences[sequence].frames for each in scores.values()}
        if len(counted) > 1:
            raise DataError(f"{sequence}: the trackers were scored on different frames, {_listed(counted)} of them")
    trackers = [
        Tracker(
            name,
            gather({sequence: each.sequences[sequence] for sequence in common}, each.having, each.rule),
            missing=_missing(every, each.sequences),
            cost=costs.get(name),
            frames_per_second=_speed(_results(folders[name]), common),
        )
        for name, each in scores.items()
    ]
    return Contents(tuple(trackers), {}, len(every))


def collect_raw(
    folders: Mapping[str, Path],
    truths: Mapping[str, Truth],
    rule: Rule,
    costs: Mapping[str, Cost],
    data_issues: DataIssues | None = None,
    others: Iterable[str] = (),
) -> Contents:
    """Score trackers' raw results, anyone's, on the sequences for which all of them have a result.

    Args:
        folders: by the trackers' names; results lie in them or in a sub-folder ``results``.
        truths: the ground truth of every sequence.
        rule: how the benchmark is scored.
        costs: of those trackers whose networks are known.
        data_issues: what was odd about the ground truth.
        others: names of sequences that are not compared but may have results.

    Raises:
        DataError: no sequence for which all have a result, or results that can't be read or scored.
    """
    every = list(truths)
    places = {name: _results(folder) for name, folder in folders.items()}
    present = {name: sequences_with_results(place, every, others) for name, place in places.items()}
    for name, found in present.items():
        if not found:
            instead = found_instead(places[name], every)
            raise DataError(
                f"{places[name]}: no result for any of {len(every)} sequences, such as {every[0]}.txt{instead}"
            )
    common = {each: truths[each] for each in _common(every, present)}
    trackers = [
        Tracker(
            name,
            *_scored(place, {each: truths[each] for each in present[name]}, common, rule, noted),
            missing=_missing(every, present[name]),
            cost=costs.get(name),
            frames_per_second=_speed(place, common),
            data_issues=noted,
        )
        for name, place in places.items()
        for noted in (DataIssues(),)
    ]
    return Contents(tuple(trackers), common, len(every), DataIssues() if data_issues is None else data_issues)


def _scored(
    place: Path, present: Mapping[str, Truth], compared: Mapping[str, Truth], rule: Rule, data_issues: DataIssues
) -> tuple[BenchmarkScores, dict[str, Boxes]]:
    """Return a tracker's scores and boxes on the sequences that are compared, of those that are present."""
    predicted = read_results_for(place, {name: truth.boxes for name, truth in present.items()}, data_issues=data_issues)
    scores = score_benchmark(
        predicted,
        {name: truth.boxes for name, truth in compared.items()},
        rule,
        attributes={name: truth.attributes for name, truth in compared.items()},
    )
    return scores, {name: as_counted(predicted[name], truth.boxes[0], rule) for name, truth in compared.items()}


def _results(folder: Path) -> Path:
    return folder / "results" if (folder / "results").is_dir() else folder


def _speed(place: Path, sequences: Iterable[str]) -> float | None:
    speed = read_speed(place, sequences)
    return None if speed is None else speed.frames_per_second


def _common(every: Sequence[str], present: Mapping[str, Iterable[str]]) -> list[str]:
    everywhere = set(every).intersection(*present.values())
    if not everywhere:
        counts = ", ".join(f"{name} {len(list(sequences))}" for name, sequences in present.items())
        raise DataError(f"report: no sequence is in the results of all trackers ({counts} of {len(every)})")
    return [sequence for sequence in every if sequence in everywhere]


def _missing(every: Iterable[str], present: Iterable[str]) -> tuple[str, ...]:
    there = frozenset(present)
    return tuple(sequence for sequence in every if sequence not in there)


def _listed(values: Iterable[object]) -> str:
    return join_names(map(str, values))
