"""LasHeR: 979 sequences for training and 245 for testing, one ground truth for both modalities.

Li et al., LasHeR: A Large-scale High-diversity Benchmark for RGBT Tracking, TIP 2022.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from importlib.resources import files as package_files
from pathlib import Path

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets.attributes import file_per_sequence, nearby
from mmdistill.toolkit.datasets.layout import (
    Found,
    Layout,
    SequenceFiles,
    annotations_only,
    every_level,
    first_level,
    paired_folders,
    several_folders,
)
from mmdistill.toolkit.datasets.splits import Coverage, Split, match_names
from mmdistill.toolkit.io import read_text

COUNTS = {"test": 245, "train": 979, "all": 1224}

ATTRIBUTES = (
    *("NO", "PO", "TO", "HO", "MB", "LI", "HI", "AIV", "LR", "DEF"),
    *("BC", "SA", "CM", "TC", "FL", "OV", "FM", "SV", "ARC"),
)

ATTRIBUTES_FOLDER = "AttriSeqsTxt"

ANNOTATION_FOLDERS = ("annos", "anno", "annotations", "annotation", "groundtruth", "gt")
"""Names of the folder of ``<sequence>.txt`` in small letters; it is taken before others that hold text files."""

LISTS = {"test": "testingsetList.txt", "train": "trainingsetList.txt"}

OTHER_NAMES = "sequences of another name than in the official test list"
MISPLACED = "sequences that the copy has in its test part, but that are not in the official test list; not used"
OTHER_LIST = "names that testingsetList.txt and the official test list do not share; the official list is used"
LIST_TWICE = "names that a list has twice"

_FOLDERS = paired_folders(
    truths=("visible.txt",),
    images=Pair(("visible",), ("infrared",)),
    init="init.txt",
    shared=("init.txt", "infrared.txt", "groundtruth.txt"),
)


@cache
def official_test_names() -> tuple[str, ...]:
    """Return the names of the 245 test sequences, as the benchmark's ``testingsetList.txt`` has them."""
    return tuple(package_files(__package__).joinpath("lasher_test_names.txt").read_text("utf-8").split())


def lasher(split: Split = "test") -> Layout:
    """Return the layout of one part: ``<name>/{visible,infrared}/``, ``visible.txt``, ``init.txt``; ``AttriSeqsTxt/``.

    Annotations alone may be ``<name>.txt``. A sequence belongs to the test part if the official list has its name,
    wherever it lies. In a copy without any official name the folders (``testingset``, ``trainingset``) and lists
    (``testingsetList.txt``) say which are for testing.
    """
    return Layout(
        "lasher",
        COUNTS[split],
        attributes=file_per_sequence(ATTRIBUTES_FOLDER, usual=ATTRIBUTES),
        expects="<sequence>/visible.txt, or <sequence>.txt",
        part="" if split == "all" else f"({split})",
        search=_search,
        select=partial(_select, split=split),
    )


def _search(root: Path, images: bool) -> Found | None:
    """Return all sequences of a copy, of both parts, and the folder that holds them all."""
    paired = every_level(_FOLDERS, root)
    if not paired:
        return _search_annotations(root)
    files = {each.name: each for each in _without_twins([each for _, found in paired for each in found], root)}
    if not images or any(not each.truths[0].is_file() for each in files.values()):
        for each in _annotations_beside(root, frozenset(each.truths[0].parent for each in files.values())):
            if each.name not in files:
                if not images:
                    files[each.name] = each
            elif not files[each.name].truths[0].is_file():
                files[each.name] = replace(files[each.name], truths=each.truths)
    place = Path(os.path.commonpath([folder for folder, _ in paired])) if len(paired) > 1 else paired[0][0]
    return place, list(files.values())


def _search_annotations(root: Path) -> Found | None:
    """Return the sequences of one folder of ``<name>.txt``, or of such folders of both parts side by side.

    Raises:
        DataError: several folders hold some.
    """
    found = first_level(_annotations, root)
    named = [each for each in found if each[0].name.casefold() in ANNOTATION_FOLDERS]
    if len(found) > 1 and len(named) == 1:
        found = named
    if len(found) > 1 and all(_folder_part(folder) for folder, _ in found):
        files = _without_twins([each for _, here in found for each in here], root)
        return Path(os.path.commonpath([folder for folder, _ in found])), files
    if len(found) > 1:
        raise several_folders(root, "lasher", [folder for folder, _ in found])
    return found[0] if found else None


def _annotations_beside(root: Path, sequences: frozenset[Path]) -> list[SequenceFiles]:
    """Return the annotations in a folder ``annos`` or the like, which lies beside folders of sequences."""

    def find(folder: Path) -> list[SequenceFiles]:
        return _annotations(folder) if folder.name.casefold() in ANNOTATION_FOLDERS else []

    found = first_level(find, root, skip=sequences)
    return found[0][1] if len(found) == 1 else []


def _annotations(folder: Path) -> list[SequenceFiles]:
    return [] if folder.name.casefold() == ATTRIBUTES_FOLDER.casefold() else annotations_only(folder)


def _without_twins(files: Sequence[SequenceFiles], root: Path) -> list[SequenceFiles]:
    """Return the sequences, of two with one name the one that has both images and ground truth.

    Raises:
        DataError: both have, or both lack, the same.
    """
    unique: dict[str, SequenceFiles] = {}
    for each in files:
        twin = unique.get(each.name)
        if twin is not None and _wealth(twin) == _wealth(each):
            places = " and ".join(str(path.truths[0].parent.relative_to(root)) for path in (twin, each))
            raise DataError(f"{root}: sequence {each.name} is there twice, in {places}; name the folder of one")
        if twin is None or _wealth(each) > _wealth(twin):
            unique[each.name] = each
    return list(unique.values())


def _wealth(files: SequenceFiles) -> int:
    images = sum(folder is not None and folder.is_dir() for folder in files.images)
    return 2 * images + files.truths[0].is_file()


def _select(found: Found, root: Path, data_issues: DataIssues, *, split: Split) -> tuple[list[SequenceFiles], Coverage]:
    """Return one part's sequences and what they cover."""
    place, files = found
    official = match_names(official_test_names(), (each.name for each in files))
    for name, meant in official.items():
        if name != meant:
            data_issues.add(OTHER_NAMES, f"{name} is {meant}")
    lists = {part: _read_list(place, root, name, data_issues) for part, name in LISTS.items()}
    marked = {each.name for each in files if _marked(each, lists) == "test"}
    tests = set(official) or marked
    for name in sorted(marked - tests):
        data_issues.add(MISPLACED, name)
    if lists["test"] is not None and official:
        for name in sorted(set(lists["test"]) ^ set(official_test_names())):
            data_issues.add(OTHER_LIST, name)
    if split == "all":
        chosen = files
    elif split == "test":
        chosen = [each for each in files if each.name in tests]
    else:
        chosen = [each for each in files if each.name not in tests | marked]
    used = {each.name for each in chosen}
    known = tuple(lists["train"] or ()) if split == "train" else official_test_names()
    present = set(official.values()) | {each.name for each in files}
    coverage = Coverage(
        "lasher",
        len(chosen),
        split,
        COUNTS[split],
        missing=tuple(name for name in dict.fromkeys(known) if name not in present),
        unofficial=split == "test" and not official,
        others=tuple(each.name for each in files if each.name not in used),
    )
    return chosen, coverage


def _marked(files: SequenceFiles, lists: dict[str, list[str] | None]) -> str | None:
    """Return which part a copy itself takes a sequence for: its lists say so, else the folders that hold it."""
    for listed, names in lists.items():
        if names is not None and files.name in names:
            return listed
    above = list(files.truths[0].absolute().parents)
    own = above[0].name == files.name  # a sequence's own folder says nothing
    return next((part for folder in above[own : own + 2] if (part := _folder_part(folder))), None)


def _folder_part(folder: Path) -> str | None:
    """Return which part a folder's name says that it holds."""
    name = folder.absolute().name.casefold()
    return next((part for part in LISTS if name.startswith(f"{part}ing")), None)


def _read_list(place: Path, root: Path, name: str, data_issues: DataIssues) -> list[str] | None:
    """Return the names in a copy's own list of a part, a line each; None if it has no such list."""
    path = nearby(place, root, name)
    if path is None:
        return None
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    for twice in sorted({each for each in names if names.count(each) > 1}):
        data_issues.add(LIST_TWICE, f"{path}: {twice}")
    return names
