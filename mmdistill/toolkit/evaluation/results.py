"""Raw result files, any tracker's: found by name, read, and fitted to the frames by rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmdistill.toolkit.box_files import read_result_rows, to_boxes
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.evaluation.mat_files import read_mat_rows
from mmdistill.toolkit.image_files import is_ignored
from mmdistill.toolkit.sequence import Boxes

PREFIXED = "results named <tracker>_<sequence>"
SUFFIXED = "results named <sequence>_<tracker>"
RENAMED = "results of another name than their sequence's"
UNUSED = "files in the folder of results that belong to no sequence"
REPEATED = "results of several runs, of which the first is taken"
CORNERS = "results of 8 columns, corners, which become their enclosing boxes"
SHORT = "results a frame short, the last box is repeated"
LONG = "results longer than the sequence, the rest is cut off"
LABELED_ONLY = "results with a box for each labeled frame alone"
UNUSABLE = "results with boxes that are not finite or have no area, which repeat the one before them"
CODES = "results with VOT's codes: 1 where the tracker was started, 2 where it failed, 0 where it was not run; frames \
without a box, which repeat the one before them"
RESTARTED = "results of a tracker that was started again after failures: not comparable with runs without restarts"
EMPTY_LINES = "results with empty lines that are no frames, which are left out"

SUFFIXES = (".txt", ".csv", ".mat")
"""Of result files, the likeliest first."""

_ALIKE = str.maketrans("`´‘’", "''''")  # noqa: RUF001


class ResultFolder:
    """Where one tracker's result files are.

    A sequence's file is ``<name>.txt``; or ``<tracker>_<name>.txt``; or either with other capitals or quotes; or the
    only text file, or ``<name>_001.txt``, in a folder ``<name>``; or ``<name>_<tracker>.txt`` where all files have the
    same ``<tracker>``. Instead of ``.txt`` it may end in ``.csv`` or ``.mat``.

    Args:
        folder: holds the files.

    Raises:
        DataError: there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{folder}: expected a folder of result files, found none")
        self._files = _result_files(self.folder)
        self._stems: dict[str, Path] = {}
        for path in self._files:
            self._stems.setdefault(path.stem, path)  # of car.txt and car.mat it is the text
        self._alike: dict[str, list[str]] = {}
        for stem in self._stems:
            self._alike.setdefault(_alike(stem), []).append(stem)

    def files(self) -> list[Path]:
        """Return the files that may hold results, in order of their kinds and names."""
        return self._files

    def find(self, name: str) -> Path | None:
        """Return a sequence's file, or None if there is none.

        Raises:
            DataError: several could be meant.
        """
        for candidates in self._candidates(name):
            # Of ADRNet_walking and ADRNet_man_walking, "walking" is the one with the shorter prefix.
            candidates.sort(key=len)
            if len(candidates) > 1 and len(candidates[0]) == len(candidates[1]):
                both = " and ".join(self._stems[candidate].name for candidate in candidates[:2])
                raise DataError(f"{self.folder}: {both} could both be sequence {name}")
            if candidates:
                return self._stems[candidates[0]]
        inside = _result_files(self.folder / name)
        single = [path for path in inside if path.stem == f"{name}_001"] or inside
        return single[0] if len(single) == 1 else None

    def runs(self, path: Path) -> int:
        """Return how many runs there are in the folder of a ``<name>_001.txt``; 1 of any other file."""
        if path.parent == self.folder or not path.stem.endswith("_001"):
            return 1
        name = path.stem.removesuffix("_001")
        return sum(each.stem[:-3] == f"{name}_" and each.stem[-3:].isdigit() for each in _result_files(path.parent))

    def _candidates(self, name: str) -> Iterator[list[str]]:
        """Yield the stems that could be meant, the likeliest first."""
        yield [name] if name in self._stems else []
        yield [stem for stem in self._stems if stem.endswith(f"_{name}")]
        alike = _alike(name)
        yield list(self._alike.get(alike, []))
        yield [stem for key, stems in self._alike.items() if key.endswith(f"_{alike}") for stem in stems]
        # As OTB's toolkit has it. Of man_KCF and man_walking_KCF, the tracker is what all files end with; a text alone,
        # man_walking, is rather another sequence.
        single = len(self._stems) == 1
        after = [stem for stem in self._stems if stem.startswith(f"{name}_")]
        after = [stem for stem in after if not single or self._stems[stem].suffix.lower() == ".mat"]
        yield [stem for stem in after if all(each.endswith(stem[len(name) :]) for each in self._stems)]


def sequences_with_results(folder: str | Path, names: Iterable[str], others: Iterable[str] = ()) -> list[str]:
    """Return those of some sequences that have a result of their own, in the order given; see ``ResultFolder``.

    The file of another sequence can look like a prefixed result: ``blue_girl.txt`` like the one of ``girl``. So a file
    belongs to the longest name that fits, of ``others`` too. Where a folder has results for more than these, as many
    toolkits ship them, a prefix counts only if several files have it or all files have one.

    Args:
        folder: holds the files.
        names: of the sequences.
        others: names of more sequences that may have a file there.

    Raises:
        DataError: no such folder, or several files that could be one sequence's.
    """
    names = list(names)
    results = ResultFolder(folder)
    taken = _taken(results, dict.fromkeys([*names, *others]))
    prefixes = {path: prefix for path, name in taken.items() if (prefix := _prefix(path.stem, name))}
    counts = Counter(prefixes.values())
    certain = len(prefixes) == len(taken) or all(path in taken for path in results.files())
    present = {name for path, name in taken.items() if path not in prefixes or certain or counts[prefixes[path]] > 1}
    return [name for name in names if name in present]


def _prefix(stem: str, name: str) -> str:
    """Return what stands before a sequence's name in a file's name; empty if nothing does."""
    stem, name = _alike(stem), _alike(name)
    return stem.removesuffix(name) if stem.endswith(f"_{name}") else ""


def read_results(
    folder: str | Path,
    frames: Mapping[str, int],
    *,
    labeled: Mapping[str, NDArray[np.bool_]] | None = None,
    data_issues: DataIssues | None = None,
) -> dict[str, Boxes]:
    """Read one tracker's results for a benchmark.

    Args:
        folder: where its result files are.
        frames: for each sequence's name, how many frames it has.
        labeled: for each sequence's name which frames have a label ``(T,)``; all if not given.
        data_issues: where is noted what was odd and what was made of it.

    Returns:
        For each name the boxes ``(frames, 4)``.

    Raises:
        DataError: a result is missing, ambiguous, malformed or too short.
    """
    data_issues = DataIssues() if data_issues is None else data_issues
    paths = _paths(ResultFolder(folder), list(frames), data_issues)
    return {
        name: _read(path, frames[name], None if labeled is None else labeled[name], data_issues)
        for name, path in paths.items()
    }


def read_results_for(
    folder: str | Path, truths: Mapping[str, Sequence[Boxes]], *, data_issues: DataIssues | None = None
) -> dict[str, Boxes]:
    """Read one tracker's results for sequences of which the ground truth is known; see ``read_results``.

    Args:
        folder: where its result files are.
        truths: for each sequence's name all its ground truth, each ``(T, 4)``; a frame has a label if one of them has.
        data_issues: where is noted what was odd and what was made of it.
    """
    frames = {name: len(each[0]) for name, each in truths.items()}
    labeled = {name: np.asarray(np.isfinite(each).all(axis=-1).any(axis=0)) for name, each in truths.items()}
    return read_results(folder, frames, labeled=labeled, data_issues=data_issues)


def fit_length(
    boxes: Boxes,
    frames: int,
    *,
    where: str | Path,
    labeled: NDArray[np.bool_] | None = None,
    data_issues: DataIssues | None = None,
) -> Boxes:
    """Return the boxes of exactly ``frames`` frames.

    Some published results miss the last frame, which repeats the box before it, and some go on after it, which is cut
    off. Where not all frames have a label, there may be a box for the labeled frames alone, or none after the last of
    them; the other frames then have NaN.

    Args:
        boxes: ``(T, 4)``.
        frames: how many frames the ground truth has.
        where: the file the boxes are from, named in messages.
        labeled: which frames have a label ``(frames,)``; all if not given.
        data_issues: where is noted what was done.

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
        return _filled(boxes, slice(len(boxes)), frames)
    if len(boxes) == mask.sum() != frames:
        data_issues.add(LABELED_ONLY, counts)
        return _filled(boxes, mask, frames)
    if len(boxes) > frames:
        data_issues.add(LONG, counts)
        return boxes[:frames]
    if len(boxes) < needed - 1:
        raise DataError(f"{where}: expected a box for each of {frames} frames, got {len(boxes)}")
    data_issues.add(SHORT, counts)
    return _filled(np.concatenate([boxes, boxes[-1:]]), slice(needed), frames)


def _filled(boxes: Boxes, where: slice | NDArray[np.bool_], frames: int) -> Boxes:
    filled = np.full((frames, 4), np.nan)
    filled[where] = boxes
    return filled


def _paths(results: ResultFolder, names: list[str], data_issues: DataIssues) -> dict[str, Path]:
    """Return each sequence's file and note what is odd about the names."""
    taken = _taken(results, names)
    paths = {name: path for path, name in taken.items()}
    missing = [name for name in names if name not in paths]
    if missing:
        raise missing_result(results.folder, missing)
    for name, path in paths.items():
        if path.stem.endswith(f"_{name}"):
            data_issues.add(PREFIXED)
        elif path.parent == results.folder and path.stem.startswith(f"{name}_"):
            data_issues.add(SUFFIXED)
        elif path.stem != name:
            data_issues.add(RENAMED, f"{path.relative_to(results.folder)} is {name}")
        if (runs := results.runs(path)) > 1:
            data_issues.add(REPEATED, f"{path.relative_to(results.folder)}: of {runs}")
    for path in results.files():
        if path not in taken:
            data_issues.add(UNUSED, path.name)
    return {name: paths[name] for name in names}


def _taken(results: ResultFolder, names: Iterable[str]) -> dict[Path, str]:
    """Return which sequence each file belongs to; of several that it could be, the one of the longest name."""
    taken: dict[Path, str] = {}
    for name in sorted(names, key=len, reverse=True):
        path = results.find(name)
        if path is not None:
            taken.setdefault(path, name)
    return taken


def missing_result(folder: str | Path, names: Sequence[str]) -> DataError:
    """Return the error for sequences that have no result in a folder, with what it holds instead."""
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    expected = f"expected {names[0]}.txt or <tracker>_{names[0]}.txt"
    return DataError(
        f"{folder}: no result for sequence {names[0]}{more}, {expected}{found_instead(Path(folder), names)}"
    )


def found_instead(folder: Path, names: Collection[str]) -> str:
    """Return the end of an error: what a folder without the right results holds, where that tells what to give.

    Args:
        folder: where results were looked for.
        names: of the sequences.
    """
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not is_ignored(path))
    trackers = [path.name for path in below if path.name not in names and _result_files(path)]
    if trackers:
        return f"; folders below it hold results: {', '.join(trackers[:3])}{' ...' if len(trackers) > 3 else ''}"
    places = [folder, *(path for path in below if path.name in names)]
    kinds = Counter(path.suffix for place in places for path in place.iterdir() if path.is_file())
    others = [f"{count} {kind or 'without suffix'}" for kind, count in sorted(kinds.items()) if kind not in SUFFIXES]
    return f"; found other files ({', '.join(others[:3])}), read are {', '.join(SUFFIXES)}" if others else ""


def _result_files(folder: Path) -> list[Path]:
    """Return what may hold results, text first; hidden files are what a Mac leaves beside others."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not is_ignored(path)]
    return sorted(found, key=lambda path: (SUFFIXES.index(path.suffix.lower()), path.name))


def _read(path: Path, frames: int, labeled: NDArray[np.bool_] | None, data_issues: DataIssues) -> Boxes:
    codes: list[int] = []
    if path.suffix.lower() == ".mat":
        rows = read_mat_rows(path)
    else:
        rows, codes = read_result_rows(path)
    if rows.shape[1] == 8:
        data_issues.add(CORNERS)
    if codes:
        data_issues.add(CODES, f"{path.name}: {len(codes):,} of {len(rows):,}")
    if codes.count(1) > 1:
        data_issues.add(RESTARTED, f"{path.name}: {codes.count(1) - 1:,} times")
    boxes = to_boxes(rows)
    written = ~np.isnan(boxes).all(axis=1)
    if len(boxes) != frames and written.sum() == frames and not codes:
        data_issues.add(EMPTY_LINES, path.name)
        boxes = boxes[written]
    unusable = int((~usable(boxes)).sum()) - len(codes)
    if unusable:
        data_issues.add(UNUSABLE, f"{path.name}: {unusable:,} of {len(boxes):,}")
    return fit_length(boxes, frames, where=path, labeled=labeled, data_issues=data_issues)


def usable(boxes: Boxes) -> NDArray[np.bool_]:
    """Whether each of boxes ``(T, 4)`` is finite and has an area."""
    return np.asarray(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1))


def _alike(name: str) -> str:
    """Return a name without what people write differently."""
    return name.casefold().translate(_ALIKE)
