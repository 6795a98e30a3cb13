"""From trackers' folders to the contents of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmdistill.reference.data.sequence import Boxes
from mmdistill.reference.errors import DataError, some
from mmdistill.reference.evaluation.curve_file import CURVES, read_curves
from mmdistill.reference.evaluation.results import found_instead, read_results_for, sequences_with_results
from mmdistill.reference.evaluation.rules import Rule
from mmdistill.reference.evaluation.scores import BenchmarkScores, gather
from mmdistill.reference.evaluation.scoring import as_counted, score_benchmark
from mmdistill.reference.evaluation.speed import read_speed
from mmdistill.reference.oddities import Oddities
from mmdistill.reference.report.contents import Contents, Tracker, Truth
from mmdistill.reference.report.cost import Cost


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
    oddities: Oddities | None = None,
    others: Iterable[str] = (),
) -> Contents:
    """Score trackers' raw results, anyone's, on the sequences for which all of them have a result.

    Args:
        folders: by the trackers' names; results lie in them or in a sub-folder ``results``.
        truths: the ground truth of every sequence.
        rule: how the benchmark is scored.
        costs: of those trackers whose networks are known.
        oddities: what was odd about the ground truth.
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
            oddities=noted,
        )
        for name, place in places.items()
        for noted in (Oddities(),)
    ]
    return Contents(tuple(trackers), common, len(every), Oddities() if oddities is None else oddities)


def _scored(
    place: Path, present: Mapping[str, Truth], compared: Mapping[str, Truth], rule: Rule, oddities: Oddities
) -> tuple[BenchmarkScores, dict[str, Boxes]]:
    """Return a tracker's scores and boxes on the sequences that are compared, of those that are present."""
    predicted = read_results_for(place, {name: truth.boxes for name, truth in present.items()}, oddities=oddities)
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
    return some(map(str, values))
