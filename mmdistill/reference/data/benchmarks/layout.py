"""How a benchmark lies on disk: what all layouts share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdistill.pair import Pair
from mmdistill.reference.data.benchmarks.attributes import Attributes
from mmdistill.reference.data.folders import find_annotation
from mmdistill.reference.data.natural_order import sort_naturally
from mmdistill.reference.errors import DataError

DEEPEST = 2
"""How many folders below the one that is named the sequences are looked for."""

LISTS = frozenset(
    {"groundtruth", "groundtruth_rect", "init", "list", "readme", "sequencesattr", "sequencesname"}
    | {"testingsetlist", "trainingsetlist"}
)
"""Names of text files that are no sequence's, without suffix and in small letters."""


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
    """

    name: str
    truths: tuple[Path, ...]
    images: Pair[Path | None]
    init: Path | None = None
    corners: bool = False
    every: int = 1


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
        listed: the name of a text file with the sequences' names, a line each, which a copy may have.
    """

    benchmark: str
    count: int | None
    find: tuple[Callable[[Path], list[SequenceFiles]], ...]
    attributes: Attributes | None = None
    part: str = ""
    listed: str = ""

    @property
    def title(self) -> str:
        """The benchmark's name and part."""
        return f"{self.benchmark} {self.part}".rstrip()


def search(layout: Layout, root: Path) -> tuple[Path, list[SequenceFiles]]:
    """Look for a benchmark's sequences in a folder, then in the folders below it.

    Returns:
        The folder in which they, or their annotations, lie; and their files in natural order of the names.

    Raises:
        DataError: there are none, or several folders hold some.
    """
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder with the sequences of {layout.title}, there is none")
    for find in layout.find:
        level = [root]
        for _ in range(DEEPEST + 1):
            found = [(folder, files) for folder in level if (files := find(folder))]
            if len(found) > 1:
                places = " and ".join(str(place.relative_to(root)) for place, _ in found[:2])
                raise DataError(
                    f"{root}: {len(found)} folders hold sequences of {layout.title}, such as {places}; name one"
                )
            if found:
                place, files = found[0]
                return place, sort_naturally(files, lambda each: each.name, str(place))
            level = [below for folder in level for below in sub_folders(folder)]
    raise DataError(f"{root}: expected the sequences of {layout.title} or their annotations, there are none")


def paired_folders(
    *,
    truths: Sequence[str],
    images: Pair[tuple[str, ...]],
    init: str | None = None,
    corners: bool = False,
    every: int = 1,
) -> Callable[[Path], list[SequenceFiles]]:
    """Return what finds sequence folders, each with a folder of frames per modality and files of boxes.

    Args:
        truths: names of the files of boxes: one, or RGB's and TIR's.
        images: the names that each modality's folder may have.
        init: the name of the file with the box to start from.
        corners: as in ``SequenceFiles``.
        every: as in ``SequenceFiles``.
    """
    marks = (*truths, *images.rgb, *images.tir)

    def find(folder: Path) -> list[SequenceFiles]:
        one = any((folder / name).is_file() for name in truths)
        folders = [folder] if one else [each for each in sub_folders(folder) if _holds_any(each, marks)]
        return [
            SequenceFiles(
                each.resolve().name,
                tuple(each / name for name in truths),
                Pair(*(first_there(each, names) for names in images)),
                None if init is None else each / init,
                corners=corners,
                every=every,
            )
            for each in folders
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
    """Return a folder's text files, lists of sequences and the like aside."""
    return [path for path in folder.glob("*.txt") if path.stem.casefold() not in LISTS and path.name[0] != "."]


def sub_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, hidden ones aside, in natural order."""
    found = [path for path in folder.iterdir() if path.name[0] != "." and path.is_dir()]
    return sort_naturally(found, lambda path: path.name, str(folder))


def first_there(folder: Path, names: Sequence[str]) -> Path:
    """Return the first of several entries of a folder that is there; the first of all if none is."""
    return next((path for name in names if (path := folder / name).exists()), folder / names[0])


def _holds_any(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / name).exists() for name in names)
