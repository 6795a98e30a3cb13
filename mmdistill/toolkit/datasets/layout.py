"""How a benchmark lies on disk: what all layouts share."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets.attributes import Attributes
from mmdistill.toolkit.datasets.folder_sequence import find_annotation, is_stray
from mmdistill.toolkit.datasets.splits import Coverage
from mmdistill.toolkit.image_files import sort_naturally
from mmdistill.toolkit.sequence import Boxes

DEEPEST = 2
"""How many folders below the one that is named the sequences are looked for."""

LISTS = frozenset(
    {"groundtruth", "groundtruth_rect", "init", "list", "readme", "sequencesattr", "sequencesname"}
    | {"testingsetlist", "trainingsetlist"}
)
"""Names of text files that are no sequence's, without suffix and in small letters."""

_HEAD_BYTES = 4096
_HEAD_LINES = 5


@dataclass(frozen=True)
class SequenceFiles:
    """Where the files of one sequence belong, whether they are there or not.

    Attributes:
        name: the sequence's.
        truths: the ground truth: one file, or RGB's and TIR's.
        images: the folder of each modality's frames; None where the benchmark has no such modality.
        init: the box to start from, where the benchmark has a file for it.
        corners: boxes are ``x1 y1 x2 y2``, not ``x y w h``.
        every: only each ``every``-th frame may have a box.
        labels: the ground truth ``(T, 4)`` itself, a row for each image, where it was read from other files than
            ``truths``; or why it can't be read.
    """

    name: str
    truths: tuple[Path, ...]
    images: Pair[Path | None]
    init: Path | None = None
    corners: bool = False
    every: int = 1
    labels: Boxes | DataError | None = field(default=None, compare=False)


Found = tuple[Path, list[SequenceFiles]]
"""The folder in which sequences, or their annotations, lie; and their files."""


@dataclass(frozen=True)
class Layout:
    """How one benchmark lies on disk.

    Attributes:
        benchmark: its name.
        count: how many sequences it has by its publication; None where that is open.
        find: returns the files of the sequences in a folder itself; tried one after the other, each in the folder that
            is named and in those below it.
        attributes: reads flags by sequence and attribute, where the benchmark has some.
        part: which part of the benchmark, where it has several.
        expects: the files by which a sequence is found, for the error where there are none.
        listed: the name of a text file with the sequences' names, a line each, which a copy may have.
        search: looks for the sequences in a folder in place of ``find``; its flag says whether images are wanted.
        select: returns the sequences of one part, of those that were found, with what the part covers; notes what
            is odd.
    """

    benchmark: str
    count: int | None
    find: tuple[Callable[[Path], list[SequenceFiles]], ...] = ()
    attributes: Attributes | None = None
    part: str = ""
    expects: str = ""
    listed: str = ""
    search: Callable[[Path, bool], Found | None] | None = None
    select: Callable[[Found, Path, DataIssues], tuple[list[SequenceFiles], Coverage]] | None = None

    @property
    def title(self) -> str:
        """The benchmark's name and part."""
        return f"{self.benchmark} {self.part}".rstrip()


def search(layout: Layout, root: Path, *, images: bool = True) -> Found:
    """Look for a benchmark's sequences in a folder, then in the folders below it.

    Returns:
        The folder in which they, or their annotations, lie; and their files in natural order of the names.

    Raises:
        DataError: there are none, or several folders hold some.
    """
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder with the sequences of {layout.title}, there is none")
    found = _search_levels(layout, root) if layout.search is None else layout.search(root, images)
    if found is None:
        of = f"{layout.title} or their annotations{f' ({layout.expects})' if layout.expects else ''}"
        raise DataError(f"{root}: expected the sequences of {of}, there are none")
    place, files = found
    return place, sort_naturally(files, lambda each: each.name, str(place))


def _search_levels(layout: Layout, root: Path) -> Found | None:
    for find in layout.find:
        found = first_level(find, root)
        if len(found) > 1:
            raise several_folders(root, layout.title, [place for place, _ in found])
        if found:
            return found[0]
    return None


def first_level(
    find: Callable[[Path], list[SequenceFiles]], root: Path, *, skip: frozenset[Path] = frozenset()
) -> list[Found]:
    """Return the folders that hold sequences on the first level below ``root`` that has some.

    Args:
        find: returns the sequences in a folder itself.
        root: the folder.
        skip: folders that are not looked into.
    """
    level = [root]
    for depth in range(DEEPEST + 1):
        found = [(folder, files) for folder in level if (files := find(folder))]
        if found or depth == DEEPEST:
            return found
        level = [below for folder in level for below in sub_folders(folder) if below not in skip]
    return []


def every_level(find: Callable[[Path], list[SequenceFiles]], root: Path) -> list[Found]:
    """Return all folders that hold sequences; nothing is looked for below such a folder."""
    found, level = [], [root]
    for depth in range(DEEPEST + 1):
        here = [(folder, find(folder)) for folder in level]
        found += [each for each in here if each[1]]
        if depth < DEEPEST:
            level = [below for folder, files in here if not files for below in sub_folders(folder)]
    return found


def several_folders(root: Path, title: str, places: Sequence[Path]) -> DataError:
    """Return the error for several folders that hold a benchmark's sequences."""
    named = " and ".join(str(place.relative_to(root)) for place in places[:2])
    return DataError(f"{root}: {len(places)} folders hold sequences of {title}, such as {named}; name one")


def paired_folders(
    *,
    truths: Sequence[str],
    images: Pair[tuple[str, ...]],
    init: str | None = None,
    corners: bool = False,
    every: int = 1,
    shared: Sequence[str] = (),
) -> Callable[[Path], list[SequenceFiles]]:
    """Return what finds sequence folders, each with a folder of frames per modality and files of boxes.

    Args:
        truths: names of the files of boxes: one, or RGB's and TIR's.
        images: the names that each modality's folder may have.
        init: the name of the file with the box to start from.
        corners: as in ``SequenceFiles``.
        every: as in ``SequenceFiles``.
        shared: names of files with a box per frame that stand for all of ``truths`` where none of these is there.
    """
    marks = (*truths, *shared, *images.rgb, *images.tir)

    def find(folder: Path) -> list[SequenceFiles]:
        here = _entries(folder)
        one = any(first_there(folder, (name,), here).is_file() for name in (*truths, *shared) if _has(here, name))
        folders = {each: _entries(each) for each in ([folder] if one else sub_folders(folder))}
        return [
            SequenceFiles(
                each.resolve().name,
                _truths(each, truths, shared, entries),
                Pair(*(first_there(each, names, entries) for names in images)),
                None if init is None else first_there(each, (init,), entries),
                corners=corners,
                every=every,
            )
            for each, entries in folders.items()
            if any(_has(entries, name) for name in marks)
        ]

    return find


def tir_folders(*, sequences: str, annotations: str) -> Callable[[Path], list[SequenceFiles]]:
    """Return what finds TIR sequences: frames in ``<sequences>/<name>/img``, boxes in ``<annotations>/<name>.txt``."""

    def find(folder: Path) -> list[SequenceFiles]:
        if not (folder / annotations).is_dir():
            return []
        names = {path.stem for path in box_files(folder / annotations)}
        if (folder / sequences).is_dir():
            names |= {path.name for path in sub_folders(folder / sequences)}
        return [
            SequenceFiles(
                name,
                (folder / annotations / f"{name}.txt",),
                Pair(None, first_there(folder / sequences / name, ("img", "."))),
            )
            for name in names
        ]

    return find


def annotated_folders(folder: Path) -> list[SequenceFiles]:
    """Return the TIR sequences that are folders with a file of boxes among the frames, or beside a folder ``img``."""
    return [
        SequenceFiles(each.resolve().name, (annotation,), Pair(None, first_there(each, ("img", "."))))
        for each in (folder, *sub_folders(folder))
        if (annotation := find_annotation(each)) is not None
    ]


def annotations_only(folder: Path) -> list[SequenceFiles]:
    """Return the sequences of a folder of ``<name>.txt``, one file of boxes each: enough for scoring."""
    return [SequenceFiles(path.stem, (path,), Pair(None, None)) for path in box_files(folder)]


def box_files(folder: Path) -> list[Path]:
    """Return a folder's files of boxes: its text files without lists, notes and what a system left there."""
    return [path for path in _texts(folder) if path.stem.casefold() not in LISTS and _may_hold_boxes(path)]


def other_texts(folder: Path) -> list[Path]:
    """Return a folder's text files that hold no boxes, known lists aside."""
    return [path for path in _texts(folder) if path.stem.casefold() not in LISTS and not _may_hold_boxes(path)]


def sub_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder in natural order, without those that ``is_stray``."""
    found = [path for path in folder.iterdir() if not is_stray(path) and path.is_dir()]
    return sort_naturally(found, lambda path: path.name, str(folder))


def stray_entries(folders: Iterable[Path]) -> list[Path]:
    """Return what of the folders' entries ``is_stray``."""
    unique = {folder.absolute(): folder for folder in folders}.values()
    return [path for folder in unique for path in sorted(folder.iterdir()) if is_stray(path)]


def first_there(folder: Path, names: Sequence[str], entries: Mapping[str, str] | None = None) -> Path:
    """Return the first of several entries of a folder that is there, in any letter case; the first of all if none is.

    Args:
        folder: where they may be.
        names: of the entries.
        entries: what ``_entries`` returns of the folder, where it is known.
    """
    entries = _entries(folder) if entries is None else entries
    found = (name if name == "." else entries.get(name) or entries.get(name.casefold()) for name in names)
    return folder / (next(filter(None, found), None) or names[0])


def _has(entries: Mapping[str, str], name: str) -> bool:
    return name in entries or name.casefold() in entries


def _entries(folder: Path) -> dict[str, str]:
    """Return the names of a folder's entries by themselves, and by themselves in small letters."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as found:
        names = [each.name for each in found if not is_stray(each.name)]
    return {**{name.casefold(): name for name in names}, **{name: name for name in names}}


def _texts(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.suffix.lower() == ".txt" and not is_stray(path)]
    return sorted(path for path in found if path.is_file())


def _may_hold_boxes(path: Path) -> bool:
    """Return whether one of a file's first lines has numbers for the most part, or cannot be judged by its text.

    Notes and lists of names have none. A damaged file of boxes must not pass for a note: reading it names the error.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in head and not utf16:
        return True
    text = re.sub(r"[,;]", " ", head.decode("utf-16" if utf16 else "utf-8", "replace").lstrip("\ufeff"))
    filled = [line.split() for line in text.splitlines() if line.strip()][:_HEAD_LINES]
    return not filled or any(len(words) > 1 and 2 * sum(map(_is_number, words)) > len(words) for words in filled)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _truths(folder: Path, names: Sequence[str], shared: Sequence[str], entries: Mapping[str, str]) -> tuple[Path, ...]:
    """Return a sequence's files of boxes; the first of ``shared`` for all of them where it has no other."""
    own = tuple(first_there(folder, (name,), entries) for name in names)
    if not shared or any(path.is_file() for path in own):
        return own
    others = (first_there(folder, (name,), entries) for name in shared)
    found = next((path for path in others if path.is_file() and _boxes_in(path) > 1), None)
    return own if found is None else (found,) * len(own)


def _boxes_in(path: Path) -> int:
    return sum(1 for line in path.read_bytes().splitlines() if line.strip())
