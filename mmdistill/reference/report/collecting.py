"""From trackers' folders to the contents of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmdistill.reference.errors import DataError
from mmdistill.reference.evaluation.curve_file import CURVES, read_curves
from mmdistill.reference.evaluation.results import read_results
from mmdistill.reference.evaluation.rules import Rule
from mmdistill.reference.evaluation.scoring import BenchmarkScores, gather, score_benchmark
from mmdistill.reference.networks.weights import some
from mmdistill.reference.report.contents import Contents, Tracker, Truth
from mmdistill.reference.report.cost import Cost
from mmdistill.reference.report.speed import read_speed


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
        if not (folder / CURVES).is_file():
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
            frames_per_second=read_speed(_results(folders[name]), common),
        )
        for name, each in scores.items()
    ]
    return Contents(tuple(trackers), {}, len(every))


def collect_raw(
    folders: Mapping[str, Path], truths: Mapping[str, Truth], rule: Rule, costs: Mapping[str, Cost]
) -> Contents:
    """Score trackers' raw results, anyone's, on the sequences for which all of them have a result.

    Args:
        folders: by the trackers' names; results lie in them or in a sub-folder ``results``.
        truths: the ground truth of every sequence.
        rule: how the benchmark is scored.
        costs: of those trackers whose networks are known.

    Raises:
        DataError: no sequence for which all have a result, or results that can't be read or scored.
    """
    places = {name: _results(folder) for name, folder in folders.items()}
    every = list(truths)
    present = {name: _with_result(every, place) for name, place in places.items()}
    for name, found in present.items():
        if not found:
            raise DataError(f"{places[name]}: no result for any of {len(every)} sequences, such as {every[0]}.txt")
    common = _common(every, present)
    truths = {sequence: truths[sequence] for sequence in common}
    frames = {sequence: len(truth.boxes[0]) for sequence, truth in truths.items()}
    trackers = []
    for name, place in places.items():
        boxes = read_results(place, frames)
        scores = score_benchmark(
            boxes,
            {sequence: truth.boxes for sequence, truth in truths.items()},
            rule,
            attributes={sequence: truth.attributes for sequence, truth in truths.items()},
        )
        speed = read_speed(place, common)
        trackers.append(Tracker(name, scores, boxes, _missing(every, present[name]), costs.get(name), speed))
    return Contents(tuple(trackers), truths, len(every))


def _results(folder: Path) -> Path:
    return folder / "results" if (folder / "results").is_dir() else folder


def _with_result(sequences: Iterable[str], folder: Path) -> frozenset[str]:
    """Return the sequences that have a result, by the names ``find_result`` takes.

    A file is the result of the longest name it ends in: ``SomeTracker_red_man.txt`` is that of ``red_man``, where there
    is such a sequence, and not that of ``man``.
    """
    known = frozenset(sequences)
    found = set()
    for path in folder.iterdir():
        if path.suffix == ".txt":
            name = path.stem
            starts = [0, *(place + 1 for place, letter in enumerate(name) if letter == "_")]
            found.add(next((name[start:] for start in starts if name[start:] in known), None))
    return known & found


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
    return some(map(str, values))
