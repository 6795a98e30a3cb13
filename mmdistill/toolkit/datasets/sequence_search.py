"""Searches a folder for the sequences of a benchmark, by the layout of its files."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets.attributes import AttributeReader
from mmdistill.toolkit.datasets.coverage import Coverage
from mmdistill.toolkit.datasets.folder_sequence import find_annotation
from mmdistill.toolkit.image_files import is_ignored, sort_naturally
from mmdistill.toolkit.sequence import Boxes

MAX_DEPTH = 2
"""Maximum depth of the search below the given folder."""

LIST_FILES = frozenset(
    {"groundtruth", "groundtruth_rect", "init", "list", "readme", "sequencesattr", "sequencesname"}
    | {"testingsetlist", "trainingsetlist"}
)
"""Names of text files that are not the annotation of a sequence, without suffix and in lower case."""

_HEAD_BYTES = 4096
_HEAD_LINES = 5


@dataclass(frozen=True)
class SequenceFiles:
    """The files of one sequence, whether they exist or not.

    Attributes:
        name: name of the sequence.
        annotations: the ground truth: one file, or RGB's and TIR's.
        images: folder of each modality's frames; None if the benchmark lacks the modality.
        init: file of the initial box; None if the benchmark has no such file.
        corners: boxes are ``x1 y1 x2 y2``, not ``x y w h``.
        every: only each ``every``-th frame may have a box.
        labels: the ground truth ``(T, 4)`` of a sequence whose annotations are not files of boxes, or the error of
            reading it.
    """

    name: str
    annotations: tuple[Path, ...]
    images: Pair[Path | None]
    init: Path | None = None
    corners: bool = False
    every: int = 1
    labels: Boxes | DataError | None = field(default=None, compare=False)


FolderFinder = Callable[[Path], list[SequenceFiles]]
"""Returns the sequences in a folder, without those in folders below."""

FoundSequences = tuple[Path, list[SequenceFiles]]
"""The folder of the sequences or their annotations, and the files of the sequences."""


@dataclass(frozen=True)
class Layout:
    """The layout of a benchmark's files.

    Attributes:
        benchmark: name of the benchmark.
        count: number of sequences by its publication; None if unknown.
        finders: tried in turn, each in the given folder and those below it.
        attributes: reads the attributes; None if the benchmark has none.
        part: part of the benchmark, for messages; empty if it has one part only.
        expects: files that identify a sequence, for the error if there are none.
        name_list: name of a text file with the names of the sequences, one per line, which may be missing.
        search: replaces ``finders``; takes the folder and whether images are needed.
        select: returns the sequences of one part and their coverage; adds data issues.
    """

    benchmark: str
    count: int | None
    finders: tuple[FolderFinder, ...] = ()
    attributes: AttributeReader | None = None
    part: str = ""
    expects: str = ""
    name_list: str = ""
    search: Callable[[Path, bool], FoundSequences | None] | None = None
    select: Callable[[FoundSequences, Path, DataIssues], tuple[list[SequenceFiles], Coverage]] | None = None

    @property
    def title(self) -> str:
        """Name and part of the benchmark."""
        return f"{self.benchmark} {self.part}".rstrip()


def search(layout: Layout, root: Path, *, images: bool = True) -> FoundSequences:
    """Search a folder, then the folders below it, for the sequences of a benchmark.

    Returns:
        The folder of the sequences or their annotations; and their files, in natural order of the names.

    Raises:
        DataError: no folder or several folders have sequences.
    """
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder with the sequences of {layout.title}, there is none")
    found = _search_levels(layout, root) if layout.search is None else layout.search(root, images)
    if found is None:
        files = f" ({layout.expects})" if layout.expects else ""
        raise DataError(f"{root}: expected the sequences of {layout.title} or their annotations{files}, there are none")
    folder, sequences = found
    return folder, sort_naturally(sequences, lambda each: each.name, str(folder))


def _search_levels(layout: Layout, root: Path) -> FoundSequences | None:
    for finder in layout.finders:
        found = search_first_level(finder, root)
        if len(found) > 1:
            raise ambiguous_folders(root, layout.title, [folder for folder, _ in found])
        if found:
            return found[0]
    return None


def search_first_level(
    finder: FolderFinder, root: Path, *, skip: frozenset[Path] = frozenset()
) -> list[FoundSequences]:
    """Return the folders with sequences on the first level at or below ``root`` that has some.

    Args:
        finder: returns the sequences in a folder.
        root: the folder.
        skip: folders below it to skip.
    """
    level = [root]
    for depth in range(MAX_DEPTH + 1):
        found = [(folder, files) for folder in level if (files := finder(folder))]
        if found or depth == MAX_DEPTH:
            return found
        level = [below for folder in level for below in sub_folders(folder) if below not in skip]
    return []


def search_all_levels(finder: FolderFinder, root: Path) -> list[FoundSequences]:
    """Return all folders with sequences at or below ``root``; folders below such a folder are skipped."""
    found, level = [], [root]
    for depth in range(MAX_DEPTH + 1):
        here = [(folder, finder(folder)) for folder in level]
        found += [each for each in here if each[1]]
        if depth < MAX_DEPTH:
            level = [below for folder, files in here if not files for below in sub_folders(folder)]
    return found


def ambiguous_folders(root: Path, title: str, folders: Sequence[Path]) -> DataError:
    """Return the error of several folders with sequences of a benchmark."""
    examples = " and ".join(str(folder.relative_to(root)) for folder in folders[:2])
    return DataError(f"{root}: {len(folders)} folders hold sequences of {title}, such as {examples}; name one")


def modality_folder_finder(
    *,
    annotations: Sequence[str],
    images: Pair[tuple[str, ...]],
    init: str | None = None,
    corners: bool = False,
    every: int = 1,
    shared: Sequence[str] = (),
) -> FolderFinder:
    """Return a finder of sequence folders, each with a folder of frames per modality and files of boxes.

    Args:
        annotations: names of the annotations: one, or RGB's and TIR's.
        images: allowed names of each modality's folder.
        init: name of the file of the initial box.
        corners: see ``SequenceFiles``.
        every: see ``SequenceFiles``.
        shared: names of files with a box per frame that replace ``annotations`` if none of these exists.
    """
    identifying = (*annotations, *shared, *images.rgb, *images.tir)

    def find(folder: Path) -> list[SequenceFiles]:
        entries_here = _list_entries(folder)
        is_sequence = any(
            first_existing(folder, (name,), entries_here).is_file()
            for name in (*annotations, *shared)
            if _has_entry(entries_here, name)
        )
        folders = {each: _list_entries(each) for each in ([folder] if is_sequence else sub_folders(folder))}
        return [
            SequenceFiles(
                each.resolve().name,
                _annotations_of(each, annotations, shared, entries),
                Pair(*(first_existing(each, names, entries) for names in images)),
                None if init is None else first_existing(each, (init,), entries),
                corners=corners,
                every=every,
            )
            for each, entries in folders.items()
            if any(_has_entry(entries, name) for name in identifying)
        ]

    return find


def _annotations_of(
    folder: Path, names: Sequence[str], shared: Sequence[str], entries: Mapping[str, str]
) -> tuple[Path, ...]:
    """Return the annotations of a sequence, or if it has none the first of ``shared`` for each of them."""
    annotations = tuple(first_existing(folder, (name,), entries) for name in names)
    if not shared or any(path.is_file() for path in annotations):
        return annotations
    candidates = (first_existing(folder, (name,), entries) for name in shared)
    replacement = next((path for path in candidates if path.is_file() and _count_lines(path) > 1), None)
    return annotations if replacement is None else (replacement,) * len(annotations)


def _count_lines(path: Path) -> int:
    return sum(1 for line in path.read_bytes().splitlines() if line.strip())


def tir_folder_finder(*, sequences: str, annotations: str) -> FolderFinder:
    """Return a finder of TIR sequences: frames in ``<sequences>/<name>/img``, boxes in ``<annotations>/<name>.txt``."""

    def find(folder: Path) -> list[SequenceFiles]:
        if not (folder / annotations).is_dir():
            return []
        names = {path.stem for path in list_annotations(folder / annotations)}
        if (folder / sequences).is_dir():
            names |= {path.name for path in sub_folders(folder / sequences)}
        return [
            SequenceFiles(
                name,
                (folder / annotations / f"{name}.txt",),
                Pair(None, first_existing(folder / sequences / name, ("img", "."))),
            )
            for name in names
        ]

    return find


def find_annotated_folders(folder: Path) -> list[SequenceFiles]:
    """Return the TIR sequences that are folders with an annotation, and frames in the folder or in ``img``."""
    return [
        SequenceFiles(each.resolve().name, (annotation,), Pair(None, first_existing(each, ("img", "."))))
        for each in (folder, *sub_folders(folder))
        if (annotation := find_annotation(each)) is not None
    ]


def find_annotations(folder: Path) -> list[SequenceFiles]:
    """Return the sequences of a folder of annotations ``<name>.txt`` without images, which are enough for scoring."""
    return [SequenceFiles(path.stem, (path,), Pair(None, None)) for path in list_annotations(folder)]


def list_annotations(folder: Path) -> list[Path]:
    """Return the text files of boxes in a folder, without lists and notes."""
    return [path for path in _list_texts(folder) if _may_have_boxes(path)]


def list_other_texts(folder: Path) -> list[Path]:
    """Return the text files without boxes in a folder, without known lists."""
    return [path for path in _list_texts(folder) if not _may_have_boxes(path)]


def _list_texts(folder: Path) -> list[Path]:
    texts = [path for path in folder.iterdir() if path.suffix.lower() == ".txt" and not is_ignored(path)]
    return sorted(path for path in texts if path.stem.casefold() not in LIST_FILES and path.is_file())


def _may_have_boxes(path: Path) -> bool:
    """Return whether one of the first lines of a file consists mostly of numbers, or its text can't be judged.

    Notes and lists of names have no such line. A damaged annotation must pass, so that reading it raises its error.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in head and not utf16:
        return True
    text = re.sub(r"[,;]", " ", head.decode("utf-16" if utf16 else "utf-8", "replace").lstrip("\ufeff"))
    lines = [line.split() for line in text.splitlines() if line.strip()][:_HEAD_LINES]
    return not lines or any(len(fields) > 1 and 2 * sum(map(_is_number, fields)) > len(fields) for fields in lines)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def sub_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder in natural order, without hidden and system folders."""
    folders = [path for path in folder.iterdir() if not is_ignored(path) and path.is_dir()]
    return sort_naturally(folders, lambda path: path.name, str(folder))


def list_ignored(folders: Iterable[Path]) -> list[Path]:
    """Return the hidden and system entries of folders."""
    unique = {folder.absolute(): folder for folder in folders}.values()
    return [path for folder in unique for path in sorted(folder.iterdir()) if is_ignored(path)]


def first_existing(folder: Path, names: Sequence[str], entries: Mapping[str, str] | None = None) -> Path:
    """Return the path of the first name that exists in a folder, in any letter case, or of the first name.

    Args:
        folder: the folder; it may be missing.
        names: names of files or folders; ``.`` is the folder itself.
        entries: the result of ``_list_entries`` for the folder, if known.
    """
    entries = _list_entries(folder) if entries is None else entries
    existing = (name if name == "." else entries.get(name) or entries.get(name.casefold()) for name in names)
    return folder / (next(filter(None, existing), None) or names[0])


def _has_entry(entries: Mapping[str, str], name: str) -> bool:
    return name in entries or name.casefold() in entries


def _list_entries(folder: Path) -> dict[str, str]:
    """Return the names of a folder's entries by name and by name in lower case."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not is_ignored(entry.name)]
    return {**{name.casefold(): name for name in names}, **{name: name for name in names}}
