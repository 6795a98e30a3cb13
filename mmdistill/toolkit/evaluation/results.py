"""Raw result files of any tracker: finds them by name, reads them and fits them to the number of frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.box_files import read_result_rows, to_boxes
from mmdistill.toolkit.boxes import is_valid
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.evaluation.mat_files import read_mat_rows
from mmdistill.toolkit.image_files import is_ignored
from mmdistill.toolkit.sequence import Boxes

TRACKER_PREFIX = "results named <tracker>_<sequence>"
TRACKER_SUFFIX = "results named <sequence>_<tracker>"
NAME_MISMATCH = "results named differently from their sequence"
EXTRA_FILES = "files in the results folder that belong to no sequence"
REPEATED_RUNS = "results of several runs, the first run is used"
CORNER_COLUMNS = "results of 8 columns, the corners' enclosing boxes are used"
MISSING_LAST_BOX = "results a frame short, the last box is repeated"
EXTRA_BOXES = "results longer than the sequence, the extra boxes are left out"
LABELED_FRAMES_ONLY = "results with a box for each labeled frame only"
INVALID_BOXES = "results with boxes that are not finite or have no area, the box before is repeated"
VOT_CODES = (
    "results with VOT's codes (1: start, 2: failure, 0: skipped), such frames have no box, the box before is repeated"
)
RESTARTS = "results of a tracker restarted after failures, not comparable with runs without restarts"
EMPTY_LINES = "results with empty lines between boxes, the empty lines are left out"

SUFFIXES = (".txt", ".csv", ".mat")
"""Suffixes of result files, in order of preference."""

_QUOTES = str.maketrans("`´‘’", "''''")  # noqa: RUF001


class ResultFolder:
    """A folder with one tracker's result files.

    A sequence's file is, in order of preference:

    - ``<name>.txt``,
    - ``<tracker>_<name>.txt``,
    - either of them with other capitals or quotes,
    - ``<name>_<tracker>.txt`` if all files have the same ``<tracker>``,
    - ``<name>_001.txt``, or the only text file, in a subfolder ``<name>``.

    The suffix may also be ``.csv`` or ``.mat``.

    Args:
        folder: the folder.

    Raises:
        DataError: there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{folder}: expected a folder of result files, found none")
        self._files = _result_files(self.folder)
        self._by_stem: dict[str, Path] = {}
        for path in self._files:
            self._by_stem.setdefault(path.stem, path)  # car.txt is preferred to car.mat
        self._by_folded_stem: dict[str, list[str]] = {}
        for stem in self._by_stem:
            self._by_folded_stem.setdefault(_fold(stem), []).append(stem)

    def files(self) -> list[Path]:
        """Return the files that may hold results, by suffix and name."""
        return self._files

    def find(self, name: str) -> Path | None:
        """Return a sequence's file, or None if there is none.

        Raises:
            DataError: several files fit equally well.
        """
        for candidates in self._candidates(name):
            # Of ADRNet_walking and ADRNet_man_walking, "walking" is the one with the shorter prefix.
            candidates.sort(key=len)
            if len(candidates) > 1 and len(candidates[0]) == len(candidates[1]):
                both = " and ".join(self._by_stem[candidate].name for candidate in candidates[:2])
                raise DataError(f"{self.folder}: {both} could both be sequence {name}")
            if candidates:
                return self._by_stem[candidates[0]]
        inside = _result_files(self.folder / name)
        single = [path for path in inside if path.stem == f"{name}_001"] or inside
        return single[0] if len(single) == 1 else None

    def count_runs(self, path: Path) -> int:
        """Return the number of runs in the folder of a ``<name>_001.txt``; 1 for any other file."""
        if path.parent == self.folder or not path.stem.endswith("_001"):
            return 1
        name = path.stem.removesuffix("_001")
        return sum(each.stem[:-3] == f"{name}_" and each.stem[-3:].isdigit() for each in _result_files(path.parent))

    def _candidates(self, name: str) -> Iterator[list[str]]:
        """Yield lists of stems that fit, the preferred ones first."""
        yield [name] if name in self._by_stem else []
        yield [stem for stem in self._by_stem if stem.endswith(f"_{name}")]
        folded_name = _fold(name)
        yield list(self._by_folded_stem.get(folded_name, []))
        yield [stem for key, stems in self._by_folded_stem.items() if key.endswith(f"_{folded_name}") for stem in stems]
        # OTB's form. All files end with the tracker's name, so of man_KCF and man_walking_KCF the first is "man". A
        # single text file, man_walking, is more likely another sequence.
        single = len(self._by_stem) == 1
        longer = [stem for stem in self._by_stem if stem.startswith(f"{name}_")]
        longer = [stem for stem in longer if not single or self._by_stem[stem].suffix.lower() == ".mat"]
        yield [stem for stem in longer if all(each.endswith(stem[len(name) :]) for each in self._by_stem)]


def sequences_with_results(folder: str | Path, names: Iterable[str], others: Iterable[str] = ()) -> list[str]:
    """Return the names of the sequences that have a result in a folder; see ``ResultFolder``.

    ``blue_girl.txt`` could be the result of a tracker ``blue`` on ``girl``. So a file belongs to the longest name that
    fits, ``others`` included. If the folder has results of further sequences, a prefix counts only if several files
    have it or all files have one.

    Args:
        folder: holds the result files.
        names: names of the sequences.
        others: names of further sequences that may have a result.

    Returns:
        Those of ``names`` with a result, in the same order.

    Raises:
        DataError: there is no such folder, or several files fit one sequence equally well.
    """
    names = list(names)
    results = ResultFolder(folder)
    assigned = _assign_files(results, dict.fromkeys([*names, *others]))
    prefixes = {path: prefix for path, name in assigned.items() if (prefix := _prefix(path.stem, name))}
    counts = Counter(prefixes.values())
    certain = len(prefixes) == len(assigned) or all(path in assigned for path in results.files())
    present = {name for path, name in assigned.items() if path not in prefixes or certain or counts[prefixes[path]] > 1}
    return [name for name in names if name in present]


def _prefix(stem: str, name: str) -> str:
    """Return the part of a file's stem before the sequence's name, or an empty text."""
    stem, name = _fold(stem), _fold(name)
    return stem.removesuffix(name) if stem.endswith(f"_{name}") else ""


def read_results(
    folder: str | Path,
    frames: Mapping[str, int],
    *,
    labeled: Mapping[str, NDArray[np.bool_]] | None = None,
    data_issues: DataIssues | None = None,
) -> dict[str, Boxes]:
    """Read one tracker's results.

    Args:
        folder: holds the result files.
        frames: number of frames by sequence name.
        labeled: flags ``(T,)`` of the labeled frames, by sequence name; all frames by default.
        data_issues: receives the data issues and how they were handled.

    Returns:
        Boxes ``(T, 4)``, ``x y w h`` in pixels, by sequence name.

    Raises:
        DataError: a result is missing, ambiguous, malformed or too short.
    """
    data_issues = DataIssues() if data_issues is None else data_issues
    paths = _find_files(ResultFolder(folder), list(frames), data_issues)
    return {
        name: _read(path, frames[name], None if labeled is None else labeled[name], data_issues)
        for name, path in paths.items()
    }


def read_benchmark_results(
    folder: str | Path, ground_truth: Mapping[str, Sequence[Boxes]], *, data_issues: DataIssues | None = None
) -> dict[str, Boxes]:
    """Read one tracker's results on sequences with ground truth; see ``read_results``.

    Args:
        folder: holds the result files.
        ground_truth: all ground truths of each sequence, each ``(T, 4)``. A frame is labeled if it is in one of them.
        data_issues: receives the data issues and how they were handled.
    """
    frames = {name: len(each[0]) for name, each in ground_truth.items()}
    labeled = {name: np.asarray(np.isfinite(each).all(axis=-1).any(axis=0)) for name, each in ground_truth.items()}
    return read_results(folder, frames, labeled=labeled, data_issues=data_issues)


def fit_length(
    boxes: Boxes,
    frames: int,
    *,
    where: str | Path,
    labeled: NDArray[np.bool_] | None = None,
    data_issues: DataIssues | None = None,
) -> Boxes:
    """Return exactly one box for each frame.

    - A missing last box repeats the box before it.
    - Boxes after the last frame are left out.
    - If some frames have no label, the result may have boxes for the labeled frames only, or end after the last of
      them. The other frames get NaN.

    Args:
        boxes: ``(N, 4)``.
        frames: number of frames of the ground truth.
        where: the boxes' file, for messages.
        labeled: flags ``(T,)`` of the labeled frames; all frames by default.
        data_issues: receives what was changed.

    Raises:
        DataError: more than one box is missing.
    """
    data_issues = DataIssues() if data_issues is None else data_issues
    if len(boxes) == frames:
        return boxes
    mask = np.ones(frames, dtype=bool) if labeled is None else labeled
    needed = int(np.flatnonzero(mask)[-1]) + 1 if mask.any() else frames
    counts = f"{where}: {len(boxes):,} boxes for {frames:,} frames"
    if needed <= len(boxes) < frames:
        return _scatter(boxes, slice(len(boxes)), frames)
    if len(boxes) == mask.sum() != frames:
        data_issues.add(LABELED_FRAMES_ONLY, counts)
        return _scatter(boxes, mask, frames)
    if len(boxes) > frames:
        data_issues.add(EXTRA_BOXES, counts)
        return boxes[:frames]
    if len(boxes) < needed - 1:
        raise DataError(f"{where}: expected a box for each of {frames} frames, got {len(boxes)}")
    data_issues.add(MISSING_LAST_BOX, counts)
    return _scatter(np.concatenate([boxes, boxes[-1:]]), slice(needed), frames)


def _scatter(boxes: Boxes, positions: slice | NDArray[np.bool_], frames: int) -> Boxes:
    """Return ``frames`` boxes: the given ones at these positions, NaN elsewhere."""
    placed = np.full((frames, 4), np.nan)
    placed[positions] = boxes
    return placed


def _find_files(results: ResultFolder, names: list[str], data_issues: DataIssues) -> dict[str, Path]:
    """Return each sequence's file and add the data issues of file names."""
    assigned = _assign_files(results, names)
    paths = {name: path for path, name in assigned.items()}
    missing = [name for name in names if name not in paths]
    if missing:
        raise missing_result_error(results.folder, missing)
    for name, path in paths.items():
        if path.stem.endswith(f"_{name}"):
            data_issues.add(TRACKER_PREFIX)
        elif path.parent == results.folder and path.stem.startswith(f"{name}_"):
            data_issues.add(TRACKER_SUFFIX)
        elif path.stem != name:
            data_issues.add(NAME_MISMATCH, f"{path.relative_to(results.folder)} is {name}")
        if (runs := results.count_runs(path)) > 1:
            data_issues.add(REPEATED_RUNS, f"{path.relative_to(results.folder)}: of {runs}")
    for path in results.files():
        if path not in assigned:
            data_issues.add(EXTRA_FILES, path.name)
    return {name: paths[name] for name in names}


def _assign_files(results: ResultFolder, names: Iterable[str]) -> dict[Path, str]:
    """Return the sequence of each file; if several fit, the one of the longest name."""
    assigned: dict[Path, str] = {}
    for name in sorted(names, key=len, reverse=True):
        path = results.find(name)
        if path is not None:
            assigned.setdefault(path, name)
    return assigned


def missing_result_error(folder: str | Path, names: Sequence[str]) -> DataError:
    """Return the error for sequences without a result, with the names that were expected and what the folder holds."""
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    expected = f"expected {names[0]}.txt or <tracker>_{names[0]}.txt"
    return DataError(
        f"{folder}: no result for sequence {names[0]}{more}, {expected}{describe_folder(Path(folder), names)}"
    )


def describe_folder(folder: Path, names: Collection[str]) -> str:
    """Return the end of an error: what a folder without the expected results holds; empty if that is no help.

    Args:
        folder: where results were expected.
        names: names of the sequences.
    """
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir() and not is_ignored(path))
    trackers = [path.name for path in subfolders if path.name not in names and _result_files(path)]
    if trackers:
        return f"; folders below it hold results: {', '.join(trackers[:3])}{' ...' if len(trackers) > 3 else ''}"
    searched = [folder, *(path for path in subfolders if path.name in names)]
    kinds = Counter(path.suffix for each in searched for path in each.iterdir() if path.is_file())
    others = [f"{count} {kind or 'without suffix'}" for kind, count in sorted(kinds.items()) if kind not in SUFFIXES]
    return f"; found other files ({', '.join(others[:3])}), expected {', '.join(SUFFIXES)}" if others else ""


def _result_files(folder: Path) -> list[Path]:
    """Return the files that may hold results, by suffix and name, without stray files such as macOS's ``._*``."""
    if not folder.is_dir():
        return []
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not is_ignored(path)]
    return sorted(paths, key=lambda path: (SUFFIXES.index(path.suffix.lower()), path.name))


def _read(path: Path, frames: int, labeled: NDArray[np.bool_] | None, data_issues: DataIssues) -> Boxes:
    """Read a file's boxes, one per frame, and add its data issues."""
    codes: list[int] = []
    if path.suffix.lower() == ".mat":
        rows = read_mat_rows(path)
    else:
        rows, codes = read_result_rows(path)
    if rows.shape[1] == 8:
        data_issues.add(CORNER_COLUMNS)
    if codes:
        data_issues.add(VOT_CODES, f"{path.name}: {len(codes):,} of {len(rows):,}")
    if codes.count(1) > 1:
        data_issues.add(RESTARTS, f"{path.name}: {codes.count(1) - 1:,} times")
    boxes = to_boxes(rows)
    not_empty = ~np.isnan(boxes).all(axis=1)
    if len(boxes) != frames and not_empty.sum() == frames and not codes:
        data_issues.add(EMPTY_LINES, path.name)
        boxes = boxes[not_empty]
    invalid = int((~is_valid(boxes)).sum()) - len(codes)
    if invalid:
        data_issues.add(INVALID_BOXES, f"{path.name}: {invalid:,} of {len(boxes):,}")
    return fit_length(boxes, frames, where=path, labeled=labeled, data_issues=data_issues)


def _fold(name: str) -> str:
    """Return a name with capitals and quotes unified."""
    return name.casefold().translate(_QUOTES)
